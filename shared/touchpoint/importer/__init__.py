"""`touchpoint import`: a file of history becomes events, by a mapping, through the gateway.

`records` reads the file, `mapping` says how a record becomes events, `translate` does it, `gateway` sends, `run` ties
them together so that a kill at any moment loses nothing and doubles nothing.
"""
