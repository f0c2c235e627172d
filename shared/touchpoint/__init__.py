"""Touchpoint: contracts of the events, the exactly-once engine around Kafka and PostgreSQL, and the command line."""
