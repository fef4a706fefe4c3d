"""Everything that runs in the vehicle: the tick, its stages, and the processes around them."""
