"""HTTP errors about feedback."""

from uuid import UUID

from touchpoint.http.errors import ProblemError


class FeedbackNotFoundError(ProblemError):
    """404: the tenant has no feedback with this id. Another tenant's feedback gets the same answer."""

    def __init__(self, feedback_id: UUID) -> None:
        super().__init__(
            404, "not-found", f"There is no feedback {feedback_id}; if it was just sent, it may not be stored yet."
        )
