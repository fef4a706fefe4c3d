"""What the candidate would have done, and how that differs from what the active controller does."""
