"""HTTP errors about cases."""

from uuid import UUID

from touchpoint.http.errors import ProblemError


class EscalationNotFoundError(ProblemError):
    """404: the tenant has no case with this id. Another tenant's case gets the same answer."""

    def __init__(self, escalation_id: UUID) -> None:
        super().__init__(404, "not-found", f"There is no escalation {escalation_id}.")


class AlreadyResolvedError(ProblemError):
    """409: a resolved case cannot be acknowledged."""

    def __init__(self, escalation_id: UUID) -> None:
        super().__init__(
            409, "already-resolved", f"Escalation {escalation_id} is resolved and cannot be acknowledged any more."
        )
