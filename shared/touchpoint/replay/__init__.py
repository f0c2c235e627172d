"""Replays: apply part of the log again, or rebuild all tables of a service beside the live ones and swap them in."""
