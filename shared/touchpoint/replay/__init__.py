"""Replays: part of the log applied again, or a whole service built anew beside its live tables and swapped in."""
