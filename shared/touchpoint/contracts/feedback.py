"""What feedback-svc has to say: feedback that is stored and can be looked up."""

from typing import ClassVar
from uuid import UUID

from pydantic import ConfigDict, Field

from touchpoint.contracts import topics
from touchpoint.contracts.base import Event, Identifier, Label, LongText, example
from touchpoint.contracts.touchpoints import Channel, FeedbackKind, Language, Score


class FeedbackRecorded(Event):
    """Feedback is stored; its score carries the scale it was asked on."""

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

    feedback_id: UUID = Field(description="the feedback's id: the identity of the event it was submitted with")
    kind: FeedbackKind = Field(description="what was asked")
    channel: Channel = Field(description="where it was said")
    customer_id: Identifier | None = Field(None, description="who said it; absent when anonymous")
    score: Score | None = Field(None, description="the answer with its scale")
    text: LongText | None = Field(None, description="in their own words")
    language: Language | None = Field(None, description="of the text, BCP 47")
    survey_id: Identifier | None = Field(None, description="the survey it answers")
    question_id: Identifier | None = Field(None, description="the question it answers")
    submission_id: Identifier | None = Field(None, description="what the answers of one form have in common")
    journey_stage: Label | None = Field(None, description="the part of the customer's journey it is about")
    product: Label | None = Field(None, description="what it is about")
