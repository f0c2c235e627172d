"""Exceptions by which a handler or a command fails, each with its own consequence."""


class TransientError(Exception):
    """A failure that is not the event's fault: the work is retried after a backoff and never becomes a dead letter."""


class PermanentError(Exception):
    """The event can never be handled and becomes a dead letter. The message is the reason, without customer data."""


class UsageError(Exception):
    """An operator's request or setting cannot work. The message is one line: what is wrong, and what to do."""


class NotFoundError(UsageError):
    """The consumer, replay or other thing an operator named does not exist."""


class ConflictError(UsageError):
    """The request conflicts with the current state, such as another replay that runs or one that has ended."""


class UnreachableError(UsageError):
    """Kafka or PostgreSQL cannot be reached."""
