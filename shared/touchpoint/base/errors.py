"""The endings a handler or a command can have other than success."""


class TransientError(Exception):
    """Nothing is wrong with the event: back off and try again. Never leads to a dead letter."""


class PermanentError(Exception):
    """The event can never be handled: it becomes a dead letter, and this message says why (no customer data in it)."""


class UsageError(Exception):
    """What an operator asked for cannot work as the machine stands. The message is one line: what, and what to do."""


class NotFoundError(UsageError):
    """What was named is not there."""


class ConflictError(UsageError):
    """It does not go with how things stand at the moment: another one is under way, or this one has ended."""


class UnreachableError(UsageError):
    """Kafka or a database does not answer."""
