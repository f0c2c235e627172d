"""What happens between a customer and the company: the events that come in through the gateway."""

from datetime import date
from decimal import Decimal
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo, field_validator

from touchpoint.contracts import topics
from touchpoint.contracts.base import (
    Amount,
    Event,
    Identifier,
    Label,
    LongText,
    Moment,
    Name,
    Quantity,
    Vocabulary,
    broken,
    example,
    tolerant,
)

Language = Annotated[str, StringConstraints(max_length=35, pattern=r"^[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*$")]
"""A BCP 47 language tag."""

Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
"""An ISO 4217 currency code."""

Seconds = Annotated[float, Field(strict=True, ge=0, le=31_622_400, allow_inf_nan=False)]
"""A duration of at most a year."""

ScoreNumber = Annotated[float, Field(strict=True, ge=-1000, le=1000, allow_inf_nan=False)]


class Channel(Vocabulary):
    """Where it happened."""

    EMAIL = "email"
    WEB = "web"
    APP = "app"
    PHONE = "phone"
    CHAT = "chat"
    SMS = "sms"
    SOCIAL = "social"
    STORE = "store"
    MAIL = "mail"
    PARTNER = "partner"
    OTHER = "other"


class FeedbackKind(Vocabulary):
    """What was asked, and so how a score is to be counted."""

    NPS = "nps"
    CSAT = "csat"
    CES = "ces"
    RATING = "rating"
    TEXT = "text"
    REVIEW = "review"
    CALL = "call"


class Priority(Vocabulary):
    """How urgent it is."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    URGENT = "urgent"


class Author(Vocabulary):
    """Who did it."""

    CUSTOMER = "customer"
    AGENT = "agent"
    BOT = "bot"


class TicketStatus(Vocabulary):
    """Where a ticket stands."""

    OPEN = "open"
    PENDING = "pending"
    ON_HOLD = "on_hold"
    RESOLVED = "resolved"
    CLOSED = "closed"


class InteractionKind(Vocabulary):
    """What kind of contact it was."""

    CALL = "call"
    MEETING = "meeting"
    CHAT = "chat"
    EMAIL = "email"
    VISIT = "visit"
    PURCHASE = "purchase"
    DELIVERY = "delivery"
    RETURN = "return"
    ONBOARDING = "onboarding"
    EVENT = "event"
    OTHER = "other"


class Direction(Vocabulary):
    """Who began it: the customer (inbound) or the company (outbound)."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class SubscriptionChange(Vocabulary):
    """What became of a subscription."""

    STARTED = "started"
    RENEWED = "renewed"
    EXPANDED = "expanded"
    CONTRACTED = "contracted"
    CHURNED = "churned"


class Score(BaseModel):
    """An answer together with the scale it was asked on: 4 of 5 is not 4 of 10."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=example(value=9, min=0, max=10))

    # The bounds come first, so that an error of the value can name its scale.
    min: ScoreNumber = Field(description="lowest value of the scale")
    max: ScoreNumber = Field(description="highest value of the scale")
    value: ScoreNumber = Field(description="the answer, min ≤ value ≤ max")

    @field_validator("max")
    @classmethod
    def _scale_is_a_range(cls, highest: float, info: ValidationInfo) -> float:
        lowest = info.data.get("min")
        if not tolerant(info) and lowest is not None and highest <= lowest:
            raise broken("empty_scale", f"score.max {highest:g} must be greater than score.min {lowest:g}")
        return highest

    @field_validator("value")
    @classmethod
    def _value_is_on_its_scale(cls, value: float, info: ValidationInfo) -> float:
        lowest, highest = info.data.get("min"), info.data.get("max")
        if tolerant(info) or lowest is None or highest is None or lowest <= value <= highest:
            return value
        raise broken("off_scale", f"score.value {value:g} is off its scale {lowest:g}–{highest:g}")


SCORED = frozenset({FeedbackKind.NPS, FeedbackKind.CSAT, FeedbackKind.CES, FeedbackKind.RATING})
"""Kinds that mean nothing without a score; the others need a text or a score."""

WHOLE = frozenset({FeedbackKind.NPS, FeedbackKind.CSAT, FeedbackKind.CES})
"""Kinds answered by picking a point of a scale of whole numbers."""


def _misfit(kind: FeedbackKind, score: Score) -> str | None:
    """Why a score cannot belong to this kind; None when it can."""
    if kind is FeedbackKind.NPS and (score.min, score.max) != (0, 10):
        return f"score.min and score.max must be 0 and 10 for nps, not {score.min:g} and {score.max:g}"
    if kind in WHOLE and not all(number.is_integer() for number in (score.min, score.max, score.value)):
        return f"score.value, score.min and score.max must be whole numbers for {kind}"
    points = score.max - score.min + 1
    if kind in WHOLE and not 2 <= points <= 11:
        return f"the scale of {kind} has 2–11 points, not {points:g}: set score.min and score.max to the scale as asked"
    return None


class FeedbackSubmitted(Event):
    """A customer said what they think: a survey answer, a review, a remark in a call."""

    model_config = ConfigDict(
        json_schema_extra=example(
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
    type: ClassVar[str] = "feedback.submitted"
    topic: ClassVar[str] = topics.TOUCHPOINTS

    kind: FeedbackKind = Field(description="what was asked; nps, csat, ces and rating need a score")
    channel: Channel = Field(description="where it was said")
    customer_id: Identifier | None = Field(None, description="who said it; absent when anonymous")
    score: Score | None = Field(
        None,
        validate_default=True,
        description="nps: whole numbers on 0–10; csat, ces: whole numbers on the scale as asked, 2–11 points",
    )
    text: LongText | None = Field(None, validate_default=True, description="in their own words")
    language: Language | None = Field(None, description="of the text, BCP 47")
    survey_id: Identifier | None = Field(None, description="the survey it answers")
    question_id: Identifier | None = Field(None, description="the question it answers")
    submission_id: Identifier | None = Field(None, description="what the answers of one form have in common")
    journey_stage: Label | None = Field(None, description="the part of the customer's journey it is about")
    product: Label | None = Field(None, description="what it is about")

    @field_validator("score")
    @classmethod
    def _score_fits_its_kind(cls, score: Score | None, info: ValidationInfo) -> Score | None:
        kind = info.data.get("kind")
        if tolerant(info) or kind is None:
            return score
        if score is None and kind in SCORED:
            raise broken("score_missing", f"kind {kind} needs score: its value, min and max")
        problem = score and _misfit(kind, score)
        if problem:
            raise broken("wrong_scale", problem)
        return score

    @field_validator("text")
    @classmethod
    def _something_was_said(cls, text: str | None, info: ValidationInfo) -> str | None:
        kind, score = info.data.get("kind"), info.data.get("score", ...)
        if not tolerant(info) and kind and kind not in SCORED and score is None and not (text and text.strip()):
            raise broken("nothing_said", f"kind {kind} needs text or score")
        return text


class TicketOpened(Event):
    """A customer asked for help: the clocks of first response and resolution start."""

    model_config = ConfigDict(
        json_schema_extra=example(
            ticket_id="T-7001",
            customer_id="C-1042",
            channel="email",
            priority="high",
            title="Desk arrived damaged",
            text="The left leg is bent. What now?",
            language="en",
            product="Standing desk",
            tags=["damaged", "delivery"],
        )
    )
    type: ClassVar[str] = "ticket.opened"
    topic: ClassVar[str] = topics.TOUCHPOINTS

    ticket_id: Identifier = Field(description="the ticket, unique within the tenant")
    customer_id: Identifier = Field(description="who asked; the same in every event of this ticket")
    channel: Channel = Field(description="where they asked")
    priority: Priority = Field(Priority.NORMAL, description="how urgent it is")
    title: Name | None = Field(None, description="the subject line")
    text: LongText | None = Field(None, description="the first message")
    language: Language | None = Field(None, description="of the text, BCP 47")
    product: Label | None = Field(None, description="what it is about")
    tags: list[Label] = Field(default_factory=list, max_length=20, description="words to group by")


class TicketReplied(Event):
    """Someone wrote in a ticket; the first public reply of an agent is the first response."""

    model_config = ConfigDict(
        json_schema_extra=example(
            ticket_id="T-7001",
            customer_id="C-1042",
            reply_id="R-2",
            author="agent",
            public=True,
            author_id="agent-12",
            text="We are sorry. A new leg is on its way.",
            channel="email",
        )
    )
    type: ClassVar[str] = "ticket.replied"
    topic: ClassVar[str] = topics.TOUCHPOINTS

    ticket_id: Identifier = Field(description="the ticket")
    customer_id: Identifier = Field(description="whose ticket it is, whoever wrote")
    reply_id: Identifier | None = Field(None, description="the message in its own system")
    author: Author = Field(description="who wrote")
    public: Annotated[bool, Field(strict=True)] = Field(True, description="false for a note among colleagues")
    author_id: Identifier | None = Field(None, description="which agent, bot or person")
    text: LongText | None = Field(None, description="what they wrote")
    channel: Channel | None = Field(None, description="where they wrote, if not where the ticket was opened")


class TicketStatusChanged(Event):
    """A ticket moved on: waiting, solved, or open again."""

    model_config = ConfigDict(
        json_schema_extra=example(ticket_id="T-7001", customer_id="C-1042", status="resolved", by="agent")
    )
    type: ClassVar[str] = "ticket.status_changed"
    topic: ClassVar[str] = topics.TOUCHPOINTS

    ticket_id: Identifier = Field(description="the ticket")
    customer_id: Identifier = Field(description="whose ticket it is")
    status: TicketStatus = Field(description="where it stands now")
    by: Author | None = Field(None, description="who changed it")


class InteractionRecorded(Event):
    """Customer and company met in another way: a call, a visit, a purchase, a delivery."""

    model_config = ConfigDict(
        json_schema_extra=example(
            interaction_id="I-310",
            customer_id="C-1042",
            kind="call",
            direction="inbound",
            channel="phone",
            duration_seconds=312.5,
            outcome="replacement promised",
            journey_stage="delivery",
            summary="Asked where the replacement is.",
        )
    )
    type: ClassVar[str] = "interaction.recorded"
    topic: ClassVar[str] = topics.TOUCHPOINTS

    interaction_id: Identifier | None = Field(None, description="the interaction in its own system")
    customer_id: Identifier = Field(description="with whom")
    kind: InteractionKind = Field(description="what kind of contact it was")
    direction: Direction | None = Field(None, description="who began it")
    channel: Channel | None = Field(None, description="where it happened")
    duration_seconds: Seconds | None = Field(None, description="how long it took, in seconds")
    outcome: Label | None = Field(None, description="how it ended")
    journey_stage: Label | None = Field(None, description="the part of the customer's journey it belongs to")
    summary: LongText | None = Field(None, description="what it was about")


class CustomerUpdated(Event):
    """What is known of a customer changed. Only the fields given change; null clears one."""

    model_config = ConfigDict(
        json_schema_extra=example(
            customer_id="C-1042",
            name="Nordwind Logistics",
            account_id="A-77",
            tier="key",
            segment="enterprise",
            owner="maria.lopez",
            region="EMEA",
            lifecycle_stage="adoption",
            annual_recurring_revenue="48000.00",
            currency="EUR",
        )
    )
    type: ClassVar[str] = "customer.updated"
    topic: ClassVar[str] = topics.TOUCHPOINTS

    customer_id: Identifier = Field(description="who")
    name: Name | None = Field(None, description="what the customer is called")
    account_id: Identifier | None = Field(None, description="the account they belong to")
    tier: Label | None = Field(None, description="how much weight they carry; policies know the tier 'key'")
    segment: Label | None = Field(None, description="the group they are counted in")
    owner: Name | None = Field(None, description="the colleague in charge")
    region: Label | None = Field(None, description="where they are")
    lifecycle_stage: Label | None = Field(None, description="how far the relationship has come")
    annual_recurring_revenue: Amount | None = Field(None, description="what they pay a year, in currency")
    currency: Currency | None = Field(None, validate_default=True, description="of the revenue, ISO 4217")

    @field_validator("currency")
    @classmethod
    def _revenue_names_its_currency(cls, currency: str | None, info: ValidationInfo) -> str | None:
        if not tolerant(info) and currency is None and info.data.get("annual_recurring_revenue") is not None:
            raise broken("currency_missing", "annual_recurring_revenue needs currency, such as EUR")
        return currency

    def data(self) -> bytes:
        """As JSON with exactly the fields that were given: here null is not absence, it clears."""
        return self.model_dump_json(exclude_unset=True).encode()


class SubscriptionChanged(Event):
    """What a customer pays changed: the movements behind net and gross revenue retention."""

    model_config = ConfigDict(
        json_schema_extra=example(
            subscription_id="SUB-9",
            customer_id="C-1042",
            change="expanded",
            annual_amount="60000.00",
            previous_annual_amount="48000.00",
            currency="EUR",
            period_start="2026-12-01",
            period_end="2027-11-30",
        )
    )
    type: ClassVar[str] = "subscription.changed"
    topic: ClassVar[str] = topics.TOUCHPOINTS

    subscription_id: Identifier = Field(description="the subscription")
    customer_id: Identifier = Field(description="who pays")
    change: SubscriptionChange = Field(description="what happened to it")
    annual_amount: Amount = Field(description="what it brings a year from now on; 0 once churned")
    previous_annual_amount: Amount | None = Field(None, description="what it brought a year until now")
    currency: Currency = Field(description="of both amounts, ISO 4217")
    period_start: date | None = Field(None, strict=True, description="first day of the period it is paid for")
    period_end: date | None = Field(None, strict=True, description="last day of that period")

    @field_validator("annual_amount")
    @classmethod
    def _churn_leaves_nothing(cls, amount: Decimal, info: ValidationInfo) -> Decimal:
        if not tolerant(info) and info.data.get("change") is SubscriptionChange.CHURNED and amount != 0:
            raise broken("churned_but_paying", f"annual_amount {amount} must be 0 when change is churned")
        return amount

    @field_validator("period_end")
    @classmethod
    def _period_runs_forward(cls, end: date | None, info: ValidationInfo) -> date | None:
        start = info.data.get("period_start")
        if not tolerant(info) and start and end and end < start:
            raise broken("period_backwards", f"period_end {end} must not be before period_start {start}")
        return end


class UsageReported(Event):
    """How much a customer used a feature in a period."""

    model_config = ConfigDict(
        json_schema_extra=example(
            customer_id="C-1042",
            feature="exports",
            quantity="128",
            unit="files",
            period_start="2026-11-01T00:00:00Z",
            period_end="2026-11-08T00:00:00Z",
        )
    )
    type: ClassVar[str] = "usage.reported"
    topic: ClassVar[str] = topics.TOUCHPOINTS

    customer_id: Identifier = Field(description="who used it")
    feature: Label = Field(description="what they used")
    quantity: Quantity = Field(description="how much, in units, at most six decimals")
    unit: Label = Field(description="what is counted")
    period_start: Moment = Field(description="from when, included")
    period_end: Moment = Field(description="until when, excluded")

    @field_validator("period_end")
    @classmethod
    def _period_runs_forward(cls, end: Moment, info: ValidationInfo) -> Moment:
        start = info.data.get("period_start")
        if not tolerant(info) and start is not None and end <= start:
            raise broken("period_backwards", "period_end must be after period_start")
        return end


class TeamFeedbackSubmitted(Event):
    """A colleague's remark about product, process or a customer."""

    model_config = ConfigDict(
        json_schema_extra=example(
            team="support",
            text="Third customer this week whose desk arrived with a bent leg.",
            author_id="agent-12",
            about="packaging",
            customer_id="C-1042",
            ticket_id="T-7001",
            submission_id="TF-5",
        )
    )
    type: ClassVar[str] = "team_feedback.submitted"
    topic: ClassVar[str] = topics.TOUCHPOINTS

    team: Label = Field(description="the team it comes from")
    text: Annotated[LongText, StringConstraints(min_length=1)] = Field(description="the remark")
    author_id: Identifier | None = Field(None, description="whose remark it is")
    about: Label | None = Field(None, description="its subject")
    customer_id: Identifier | None = Field(None, description="the customer it speaks of")
    ticket_id: Identifier | None = Field(None, description="the ticket it speaks of")
    submission_id: Identifier | None = Field(None, description="the form it came in with")
