"""What escalation-svc refuses."""

from uuid import UUID

from touchpoint.http.errors import ProblemError


class EscalationNotFoundError(ProblemError):
    """This tenant has no such case; another tenant's looks the same."""

    def __init__(self, escalation_id: UUID) -> None:
        super().__init__(404, "not-found", f"There is no escalation {escalation_id}.")


class AlreadyResolvedError(ProblemError):
    """A resolved case is not taken on any more."""

    def __init__(self, escalation_id: UUID) -> None:
        super().__init__(
            409, "already-resolved", f"Escalation {escalation_id} is resolved and cannot be acknowledged any more."
        )
