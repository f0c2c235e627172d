"""Whether what was promised has been kept: each event of the log has its effects, once and in order.

The log and a service's database are read anew and compared; nothing is changed. How, and why so: docs/reliability.md
and docs/adr/0011-verify-by-making-everything-anew.md.
"""
