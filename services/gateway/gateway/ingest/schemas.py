"""The answers to events and feedback."""

from uuid import UUID

from pydantic import BaseModel, Field

from touchpoint.http.errors import Problem


class EventTaken(BaseModel):
    """Kafka has the event. `id` and `source` together are its name."""

    id: str = Field(examples=["4711"])
    source: str = Field(examples=["/crm/eu"])
    status_url: str = Field(description="tells what became of it", examples=["/v1/events/%2Fcrm%2Feu/4711"])


class FeedbackTaken(BaseModel):
    """Kafka has the feedback."""

    id: str = Field(description="of the event: as sent, else made up", examples=["form-88121"])
    feedback_id: UUID = Field(description="its id in /v1/feedback, once feedback-svc has stored it")
    status_url: str = Field(examples=["/v1/events/%2Ftouchpoint%2Fgateway%2Ffeedback/form-88121"])


class AcceptedItem(BaseModel):
    """An event of a batch that Kafka has."""

    index: int = Field(description="its place in the batch, from 0")
    id: str
    source: str


class RefusedItem(BaseModel):
    """An event of a batch that was not taken. Status 503 in its problem: send it again as it is."""

    index: int = Field(description="its place in the batch, from 0")
    id: str | None = Field(description="as far as it could be read")
    problem: Problem


class BatchReport(BaseModel):
    """What became of a batch, event by event, each in the order sent."""

    accepted: list[AcceptedItem]
    refused: list[RefusedItem]


class BatchRefused(Problem, BatchReport):
    """No event of the batch was accepted."""
