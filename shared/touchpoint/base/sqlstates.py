"""How to react to a PostgreSQL error, for every SQLSTATE class of appendix A of the PostgreSQL manual.

- RETRY: the cause is the server, the network or an administrator, not the event or the code: back off and retry.
- HALT: code and tables do not match, or the server is damaged. No event is the cause, so none becomes a dead letter:
  the consumer halts until an operator resumes it.
- EVENT: the cause is the event's values: the event becomes a dead letter.
"""

from typing import Literal

Verdict = Literal["retry", "halt", "event"]

RETRY: Verdict = "retry"
HALT: Verdict = "halt"
EVENT: Verdict = "event"

READ_ONLY = "25006"
LOCK_NOT_AVAILABLE = "55P03"
INSUFFICIENT_PRIVILEGE = "42501"
QUERY_CANCELED = "57014"
"""A cancelled statement, also one that exceeded its statement_timeout."""

CLASSES: dict[str, Verdict] = {
    "00": HALT,  # successful completion: never an error
    "01": HALT,  # warning: never an error
    "02": HALT,  # no data: never an error
    "03": HALT,  # SQL statement not yet complete
    "08": RETRY,  # connection exception
    "09": EVENT,  # triggered action exception
    "0A": HALT,  # feature not supported
    "0B": HALT,  # invalid transaction initiation
    "0F": HALT,  # locator exception
    "0L": HALT,  # invalid grantor
    "0P": HALT,  # invalid role specification
    "0Z": HALT,  # diagnostics exception
    "10": EVENT,  # XQuery error
    "20": EVENT,  # case not found
    "21": EVENT,  # cardinality violation
    "22": EVENT,  # data exception
    "23": EVENT,  # integrity constraint violation
    "24": HALT,  # invalid cursor state
    "25": HALT,  # invalid transaction state
    "26": HALT,  # invalid SQL statement name
    "27": EVENT,  # triggered data change violation
    "28": RETRY,  # invalid authorization: a password or pg_hba.conf has changed
    "2B": HALT,  # dependent privilege descriptors still exist
    "2D": HALT,  # invalid transaction termination
    "2F": HALT,  # SQL routine exception
    "34": HALT,  # invalid cursor name
    "38": HALT,  # external routine exception
    "39": HALT,  # external routine invocation exception
    "3B": HALT,  # savepoint exception
    "3D": RETRY,  # invalid catalog name: the database does not exist, so a halt could not be stored either
    "3F": HALT,  # invalid schema name
    "40": RETRY,  # transaction rollback: serialization, deadlock
    "42": HALT,  # syntax error or access rule violation: a table or column is missing or was renamed
    "44": EVENT,  # WITH CHECK OPTION violation
    "53": RETRY,  # insufficient resources: disk full, no memory, too many connections
    "54": EVENT,  # program limit exceeded: a value too long for its index
    "55": HALT,  # object not in prerequisite state
    "57": RETRY,  # operator intervention: shutdown, cancelled, starting up
    "58": HALT,  # system error: input or output failed, files are missing
    "72": RETRY,  # snapshot too old (PostgreSQL 16)
    "F0": RETRY,  # configuration file error
    "HV": HALT,  # foreign data wrapper error
    "P0": EVENT,  # PL/pgSQL error: a trigger refuses the row
    "XX": HALT,  # internal error: data or an index is corrupted
}
"""The verdict for each class, which is the first two characters of a SQLSTATE."""

CODES: dict[str, Verdict] = {
    READ_ONLY: RETRY,  # read-only SQL transaction: a standby, or default_transaction_read_only
    "25P03": RETRY,  # idle_in_transaction_session_timeout
    "25P04": RETRY,  # transaction_timeout
    INSUFFICIENT_PRIVILEGE: RETRY,  # privileges were revoked: a retry succeeds once they are granted again
    "55006": RETRY,  # object in use
    LOCK_NOT_AVAILABLE: RETRY,
}
"""Verdicts for single SQLSTATEs that differ from the verdict for their class."""

_MAY_QUOTE = ("09", "10", "20", "21", "22", "23", "27", "38", "39", "44", "54", "P0")


def verdict(state: str) -> Verdict:
    """The verdict for a SQLSTATE. An unknown class halts, as it does not prove that the event is the cause."""
    return CODES.get(state) or CLASSES.get(state[:2], HALT)


def quotes_values(state: str) -> bool:
    """Whether the message of an error with this SQLSTATE may quote values of the event."""
    return state[:2] in _MAY_QUOTE
