"""Recorded drives through the same tick: replay, grading, synthetic drives, the bench."""
