"""What Touchpoint is worth against the least that could be done: each scenario beside a floor measured with it."""
