"""What happens between a customer and the company: the events that come in through the gateway."""

from datetime import date
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from touchpoint.contracts import topics
from touchpoint.contracts.base import (
    Amount,
    Broken,
    Event,
    Identifier,
    Label,
    LongText,
    Moment,
    Name,
    PartialUpdate,
    Quantity,
    Vocabulary,
    example,
)
from touchpoint.contracts.reasons import described

_LANGUAGE = described(r"^[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*$", "must be a language tag of BCP 47, such as en or pt-BR")
_CURRENCY = described(r"^[A-Z]{3}$", "must be a currency code of ISO 4217, such as EUR")

Language = Annotated[str, StringConstraints(max_length=35, pattern=_LANGUAGE)]
"""A BCP 47 language tag."""

Currency = Annotated[str, StringConstraints(pattern=_CURRENCY)]
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

    min: ScoreNumber = Field(description="lowest value of the scale")
    max: ScoreNumber = Field(description="highest value of the scale")
    value: ScoreNumber = Field(description="the answer, min ≤ value ≤ max")

    def broken_rules(self) -> list[Broken]:
        """A scale is a range, and the answer lies on it."""
        low, high, value = self.min, self.max, self.value
        if high <= low:
            return [Broken("score.max", f"score.max {high:g} must be greater than score.min {low:g}")]
        if not low <= value <= high:
            return [Broken("score.value", f"score.value {value:g} is off its scale {low:g}–{high:g}")]
        return []


SCORED = frozenset({FeedbackKind.NPS, FeedbackKind.CSAT, FeedbackKind.CES, FeedbackKind.RATING})
"""Kinds that mean nothing without a score; the others need a text or a score."""

WHOLE = frozenset({FeedbackKind.NPS, FeedbackKind.CSAT, FeedbackKind.CES})
"""Kinds answered by picking a point of a scale of whole numbers."""


def _misfit(kind: FeedbackKind, score: Score) -> list[Broken]:
    """Why a score cannot belong to this kind."""
    if kind not in WHOLE:
        return []
    low, high = score.min, score.max
    if kind == FeedbackKind.NPS and not (low == 0 and high == 10):
        reason = f"score.min and score.max must be 0 and 10 for nps, not {low:g} and {high:g}"
    elif not (low.is_integer() and high.is_integer() and score.value.is_integer()):
        reason = f"score.value, score.min and score.max must be whole numbers for {kind}"
    elif not 1 <= high - low <= 10:
        points = f"{high - low + 1:g}"
        reason = f"the scale of {kind} has 2–11 points, not {points}: set score.min and score.max to the scale as asked"
    else:
        return []
    return [Broken("score", reason)]


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
        description="nps: whole numbers on 0–10; csat, ces: whole numbers on the scale as asked, 2–11 points",
    )
    text: LongText | None = Field(None, description="in their own words")
    language: Language | None = Field(None, description="of the text, BCP 47")
    survey_id: Identifier | None = Field(None, description="the survey it answers")
    question_id: Identifier | None = Field(None, description="the question it answers")
    submission_id: Identifier | None = Field(None, description="what the answers of one form have in common")
    journey_stage: Label | None = Field(None, description="the part of the customer's journey it is about")
    product: Label | None = Field(None, description="what it is about")

    def broken_rules(self) -> list[Broken]:
        """Something was said, in words or by a score, and the score belongs to this kind."""
        kind, score = self.kind, self.score
        if score is not None:
            return score.broken_rules() or _misfit(kind, score)
        if kind in SCORED:
            return [Broken("score", f"kind {kind} needs score: its value, min and max")]
        if not (self.text and self.text.strip()):
            return [Broken("text", f"kind {kind} needs text or score")]
        return []


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


class CustomerUpdated(PartialUpdate):
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
    currency: Currency | None = Field(None, description="of the revenue, ISO 4217")

    def broken_rules(self) -> list[Broken]:
        """A revenue names its currency."""
        if self.currency is None and self.annual_recurring_revenue is not None:
            return [Broken("currency", "annual_recurring_revenue needs currency, such as EUR")]
        return []


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

    def broken_rules(self) -> list[Broken]:
        """A churned subscription brings nothing, and a period runs forward."""
        amount, start, end, broken = self.annual_amount, self.period_start, self.period_end, list[Broken]()
        if self.change is SubscriptionChange.CHURNED and amount != 0:
            broken.append(Broken("annual_amount", f"annual_amount {amount} must be 0 when change is churned"))
        if start and end and end < start:
            broken.append(Broken("period_end", f"period_end {end} must not be before period_start {start}"))
        return broken


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

    def broken_rules(self) -> list[Broken]:
        """A period runs forward."""
        if self.period_end <= self.period_start:
            return [Broken("period_end", "period_end must be after period_start")]
        return []


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
