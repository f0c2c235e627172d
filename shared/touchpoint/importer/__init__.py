"""`touchpoint import`: translates a file of historic records into events and sends them to the gateway.

`records` reads the file, `mapping` holds the rules, `translate` applies them to a record, `gateway` sends the events,
`checkpoint` stores the progress, and `run` joins these: a kill at any moment loses no event and duplicates none.
"""
