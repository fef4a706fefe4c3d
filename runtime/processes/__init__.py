"""The vehicle's three processes and the fleet's receiver: each composes stages and runs until it is told to stop."""
