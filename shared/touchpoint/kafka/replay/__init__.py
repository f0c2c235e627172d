"""Replays: records of the past are given to a consumer's handlers again, and only gaps are filled (docs/replay.md)."""
