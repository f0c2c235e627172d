"""What the operators' routes take and answer. Words and defaults are those of the commands."""
