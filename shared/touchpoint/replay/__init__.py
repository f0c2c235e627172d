"""`touchpoint replay`: what an operator does with replays; the work is the worker's, in `touchpoint.kafka.replay`."""
