"""Events of feedback-svc: feedback that it has stored."""

from typing import ClassVar
from uuid import UUID

from pydantic import ConfigDict, Field

from touchpoint.contracts import topics
from touchpoint.contracts.base import Event, Identifier, Label, LongText, example
from touchpoint.contracts.touchpoints import Channel, FeedbackKind, Language, Score


class FeedbackRecorded(Event):
    """Feedback was stored and can be queried; its score includes the scale of the question."""

    model_config = ConfigDict(
        json_schema_extra=example(
            feedback_id="0f8a2f0e-6a0c-5d0b-9c5a-3c1f3f6f4f11",
            kind="nps",
            channel="email",
            customer_id="C-1042",
            score={"value": 3, "min": 0, "max": 10},
            text="Delivery took three weeks and nobody answered my mails.",
            language="en",
            survey_id="relationship-2026-q4",
            question_id="recommend",
            submission_id="S-88121",
            journey_stage="delivery",
            product="Standing desk",
        )
    )
    type: ClassVar[str] = "feedback.recorded"
    topic: ClassVar[str] = topics.FEEDBACK

    feedback_id: UUID = Field(description="id of the feedback, derived from the event by which it was submitted")
    kind: FeedbackKind = Field(description="kind of feedback")
    channel: Channel = Field(description="channel by which the feedback was given")
    customer_id: Identifier | None = Field(None, description="id of the customer; absent if anonymous")
    score: Score | None = Field(None, description="the score with its scale")
    text: LongText | None = Field(None, description="the customer's own words")
    language: Language | None = Field(None, description="language of the text, BCP 47")
    survey_id: Identifier | None = Field(None, description="id of the survey that was answered")
    question_id: Identifier | None = Field(None, description="id of the question that was answered")
    submission_id: Identifier | None = Field(None, description="id shared by all answers of one submitted form")
    journey_stage: Label | None = Field(None, description="stage of the customer journey the feedback is about")
    product: Label | None = Field(None, description="product the feedback is about")
