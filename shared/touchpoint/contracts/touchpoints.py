"""Events that enter through the gateway: what happens between a customer and the company."""

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
"""A duration in seconds, at most 366 days."""

ScoreNumber = Annotated[float, Field(strict=True, ge=-1000, le=1000, allow_inf_nan=False)]


class Channel(Vocabulary):
    """The channel of a contact."""

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
    """Kind of feedback, which determines how its score is counted."""

    NPS = "nps"
    CSAT = "csat"
    CES = "ces"
    RATING = "rating"
    TEXT = "text"
    REVIEW = "review"
    CALL = "call"


class Priority(Vocabulary):
    """Priority of a ticket or case."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    URGENT = "urgent"


class Author(Vocabulary):
    """Who wrote a reply or changed a ticket."""

    CUSTOMER = "customer"
    AGENT = "agent"
    BOT = "bot"


class TicketStatus(Vocabulary):
    """Status of a ticket."""

    OPEN = "open"
    PENDING = "pending"
    ON_HOLD = "on_hold"
    RESOLVED = "resolved"
    CLOSED = "closed"


class InteractionKind(Vocabulary):
    """Kind of contact."""

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
    """Who initiated the contact: the customer (inbound) or the company (outbound)."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class SubscriptionChange(Vocabulary):
    """What changed about a subscription."""

    STARTED = "started"
    RENEWED = "renewed"
    EXPANDED = "expanded"
    CONTRACTED = "contracted"
    CHURNED = "churned"


class Score(BaseModel):
    """A score together with its scale, as 4 of 5 is not 4 of 10."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=example(value=9, min=0, max=10))

    min: ScoreNumber = Field(description="lowest value of the scale")
    max: ScoreNumber = Field(description="highest value of the scale")
    value: ScoreNumber = Field(description="the score, min ≤ value ≤ max")

    def broken_rules(self) -> list[Broken]:
        """Rules: min < max, and min ≤ value ≤ max."""
        low, high, value = self.min, self.max, self.value
        if high <= low:
            return [Broken("score.max", f"score.max {high:g} must be greater than score.min {low:g}")]
        if not low <= value <= high:
            return [Broken("score.value", f"score.value {value:g} is off its scale {low:g}–{high:g}")]
        return []


SCORED = frozenset({FeedbackKind.NPS, FeedbackKind.CSAT, FeedbackKind.CES, FeedbackKind.RATING})
"""Kinds that require a score; the others require a text or a score."""

WHOLE = frozenset({FeedbackKind.NPS, FeedbackKind.CSAT, FeedbackKind.CES})
"""Kinds whose scale consists of whole numbers."""


def _misfit(kind: FeedbackKind, score: Score) -> list[Broken]:
    """The violated rules about the scale that this kind of feedback requires."""
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
    """A customer gave feedback: a survey answer, a review, a remark in a call."""

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

    kind: FeedbackKind = Field(description="kind of feedback; nps, csat, ces and rating require a score")
    channel: Channel = Field(description="channel by which the feedback was given")
    customer_id: Identifier | None = Field(None, description="id of the customer; absent if anonymous")
    score: Score | None = Field(
        None,
        description="nps: a whole number on the scale 0–10; csat, ces: a whole number on the scale of the question, "
        "which has 2–11 points",
    )
    text: LongText | None = Field(None, description="the customer's own words")
    language: Language | None = Field(None, description="language of the text, BCP 47")
    survey_id: Identifier | None = Field(None, description="id of the survey that was answered")
    question_id: Identifier | None = Field(None, description="id of the question that was answered")
    submission_id: Identifier | None = Field(None, description="id shared by all answers of one submitted form")
    journey_stage: Label | None = Field(None, description="stage of the customer journey the feedback is about")
    product: Label | None = Field(None, description="product the feedback is about")

    def broken_rules(self) -> list[Broken]:
        """Rules: there is a score or a text, as the kind requires, and the score's scale fits the kind."""
        kind, score = self.kind, self.score
        if score is not None:
            return score.broken_rules() or _misfit(kind, score)
        if kind in SCORED:
            return [Broken("score", f"kind {kind} needs score: its value, min and max")]
        if not (self.text and self.text.strip()):
            return [Broken("text", f"kind {kind} needs text or score")]
        return []


class TicketOpened(Event):
    """A customer opened a ticket; its first-response and resolution times are measured from then on."""

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

    ticket_id: Identifier = Field(description="id of the ticket, unique within the tenant")
    customer_id: Identifier = Field(description="id of the customer; the same in every event of this ticket")
    channel: Channel = Field(description="channel by which the ticket was opened")
    priority: Priority = Field(Priority.NORMAL, description="priority of the ticket")
    title: Name | None = Field(None, description="subject line of the ticket")
    text: LongText | None = Field(None, description="first message of the ticket")
    language: Language | None = Field(None, description="language of the text, BCP 47")
    product: Label | None = Field(None, description="product the ticket is about")
    tags: list[Label] = Field(default_factory=list, max_length=20, description="labels to group tickets by")


class TicketReplied(Event):
    """A reply was written in a ticket; the first public reply by an agent is the first response."""

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

    ticket_id: Identifier = Field(description="id of the ticket")
    customer_id: Identifier = Field(description="id of the ticket's customer, whoever wrote the reply")
    reply_id: Identifier | None = Field(None, description="id of the reply in its source system")
    author: Author = Field(description="who wrote the reply: customer, agent or bot")
    public: Annotated[bool, Field(strict=True)] = Field(
        True, description="whether the customer can see the reply; false for an internal note"
    )
    author_id: Identifier | None = Field(None, description="id of the agent, bot or person who wrote the reply")
    text: LongText | None = Field(None, description="text of the reply")
    channel: Channel | None = Field(None, description="channel of the reply, if not the ticket's")


class TicketStatusChanged(Event):
    """The status of a ticket changed."""

    model_config = ConfigDict(
        json_schema_extra=example(ticket_id="T-7001", customer_id="C-1042", status="resolved", by="agent")
    )
    type: ClassVar[str] = "ticket.status_changed"
    topic: ClassVar[str] = topics.TOUCHPOINTS

    ticket_id: Identifier = Field(description="id of the ticket")
    customer_id: Identifier = Field(description="id of the ticket's customer")
    status: TicketStatus = Field(description="new status of the ticket")
    by: Author | None = Field(None, description="who changed the status: customer, agent or bot")


class InteractionRecorded(Event):
    """Another contact of customer and company: a call, a visit, a purchase, a delivery."""

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

    interaction_id: Identifier | None = Field(None, description="id of the interaction in its source system")
    customer_id: Identifier = Field(description="id of the customer")
    kind: InteractionKind = Field(description="kind of contact")
    direction: Direction | None = Field(None, description="inbound: the customer initiated it; outbound: the company")
    channel: Channel | None = Field(None, description="channel of the contact")
    duration_seconds: Seconds | None = Field(None, description="duration, in seconds")
    outcome: Label | None = Field(None, description="result of the contact")
    journey_stage: Label | None = Field(None, description="stage of the customer journey the contact belongs to")
    summary: LongText | None = Field(None, description="summary of the contact")


class CustomerUpdated(PartialUpdate):
    """A customer's master data changed. Only the given fields change; null clears a field."""

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

    customer_id: Identifier = Field(description="id of the customer")
    name: Name | None = Field(None, description="name of the customer")
    account_id: Identifier | None = Field(None, description="id of the account the customer belongs to")
    tier: Label | None = Field(None, description="importance of the customer; escalation policies use the tier 'key'")
    segment: Label | None = Field(None, description="market segment, to group metrics by")
    owner: Name | None = Field(None, description="colleague who is responsible for the customer")
    region: Label | None = Field(None, description="region of the customer")
    lifecycle_stage: Label | None = Field(None, description="stage of the business relationship")
    annual_recurring_revenue: Amount | None = Field(None, description="revenue per year, in currency")
    currency: Currency | None = Field(None, description="currency of the revenue, ISO 4217")

    def broken_rules(self) -> list[Broken]:
        """Rule: a revenue needs a currency."""
        if self.currency is None and self.annual_recurring_revenue is not None:
            return [Broken("currency", "annual_recurring_revenue needs currency, such as EUR")]
        return []


class SubscriptionChanged(Event):
    """A subscription's revenue changed; net and gross revenue retention are computed from these events."""

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

    subscription_id: Identifier = Field(description="id of the subscription")
    customer_id: Identifier = Field(description="id of the paying customer")
    change: SubscriptionChange = Field(description="kind of change")
    annual_amount: Amount = Field(description="revenue per year after the change; 0 if churned")
    previous_annual_amount: Amount | None = Field(None, description="revenue per year before the change")
    currency: Currency = Field(description="currency of both amounts, ISO 4217")
    period_start: date | None = Field(None, strict=True, description="first day of the paid period")
    period_end: date | None = Field(None, strict=True, description="last day of the paid period")

    def broken_rules(self) -> list[Broken]:
        """Rules: annual_amount is 0 if churned, and the period does not end before it starts."""
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

    customer_id: Identifier = Field(description="id of the customer")
    feature: Label = Field(description="feature that was used")
    quantity: Quantity = Field(description="quantity in `unit`, at most six decimals")
    unit: Label = Field(description="unit of the quantity, such as files")
    period_start: Moment = Field(description="start of the period, inclusive")
    period_end: Moment = Field(description="end of the period, exclusive")

    def broken_rules(self) -> list[Broken]:
        """Rule: the period ends after it starts."""
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

    team: Label = Field(description="team of the author")
    text: Annotated[LongText, StringConstraints(min_length=1)] = Field(description="text of the remark")
    author_id: Identifier | None = Field(None, description="id of the author")
    about: Label | None = Field(None, description="subject of the remark")
    customer_id: Identifier | None = Field(None, description="id of the customer that the remark is about")
    ticket_id: Identifier | None = Field(None, description="id of the ticket that the remark is about")
    submission_id: Identifier | None = Field(None, description="id shared by all remarks of one submitted form")
