"""What is refused about feedback."""

from uuid import UUID

from touchpoint.http.errors import ProblemError


class FeedbackNotFoundError(ProblemError):
    """This tenant has no such feedback; another tenant's looks the same."""

    def __init__(self, feedback_id: UUID) -> None:
        super().__init__(404, "not-found", f"There is no feedback {feedback_id}; one just sent may be on its way.")
