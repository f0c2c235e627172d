"""Verifies the exactly-once guarantee: each event of the log has its effects, once and in order.

Reads the log again, rebuilds the effects and compares them with a service's database; changes nothing. For how and why
see docs/reliability.md and docs/adr/0011-verify-by-making-everything-anew.md.
"""
