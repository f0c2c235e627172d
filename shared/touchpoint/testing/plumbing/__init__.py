"""The smallest service: the plumbing tables and no domain. For tests of the engine itself."""
