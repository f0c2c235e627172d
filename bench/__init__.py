"""Benchmarks: each scenario is compared with a floor, a minimal program for the same task, in the same run."""
