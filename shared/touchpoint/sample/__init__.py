"""`touchpoint sample`: the events of a made-up company's year, the same bytes for the same arguments.

`schedule` is a queue of future actions in order of time; `people`, `tickets`, `surveys`, `trade` and `revenue` are the
actions of a customer; `world` starts them. `texts` holds what people write, `truths` counts what was planted, `output`
writes or sends, `command` is the command line.

Nothing here reads a clock, a locale or `hash()`, and no event contains a float: the same seed makes the same world on
every machine and every Python.
"""
