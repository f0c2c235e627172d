"""Policies: which events open a case, and the targets of the clocks. One YAML file, by default `policies.yaml`.

A policy has structured conditions (field, operator, value) instead of an expression language: they can be validated
when the file is loaded, displayed, and tried on past events.
"""

import operator as compare
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from escalation_svc.customers.service import KNOWN, Customer
from touchpoint.base.errors import UsageError
from touchpoint.contracts.base import Event
from touchpoint.contracts.escalations import EscalationReason
from touchpoint.contracts.reasons import described, reason
from touchpoint.contracts.touchpoints import FeedbackSubmitted, Priority

Trigger = Literal["feedback.submitted", "ticket.opened", "sla.breached"]

_NUMBERS = frozenset({"normalised_score", "customer.annual_recurring_revenue"})
_LISTS = frozenset({"tags"})
_CUSTOMER = frozenset(f"customer.{name}" for name in KNOWN)
FIELDS: dict[Trigger, frozenset[str]] = {
    "feedback.submitted": _CUSTOMER
    | {"kind", "channel", "normalised_score", "language", "survey_id", "question_id", "journey_stage", "product"},
    "ticket.opened": _CUSTOMER | {"priority", "channel", "language", "product", "tags"},
    "sla.breached": _CUSTOMER | {"priority", "metric"},
}
"""The fields that conditions may test, by event."""

_BOUNDS = {"at_most": compare.le, "at_least": compare.ge, "below": compare.lt, "above": compare.gt}


_NAME = described(r"^[a-z0-9][a-z0-9-]{0,62}$", "must have 1–63 small letters, digits and hyphens, no hyphen first")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Equals(_Model):
    """Whether the field equals the text (`is`) or not (`is_not`). A missing value satisfies `is_not`."""

    field: str
    operator: Literal["is", "is_not"]
    value: str

    def holds(self, fact: Any) -> bool:
        """Whether it does for this value of the field."""
        return bool(fact == self.value) == (self.operator == "is")


class OneOf(_Model):
    """Whether the field is one of the texts (`one_of`) or none (`none_of`). A missing value satisfies `none_of`."""

    field: str
    operator: Literal["one_of", "none_of"]
    value: Annotated[list[str], Field(min_length=1)]

    def holds(self, fact: Any) -> bool:
        """Whether it does for this value of the field."""
        return (fact in self.value) == (self.operator == "one_of")


class Bound(_Model):
    """Whether the field is a number within the bound. A missing value is not."""

    field: str
    operator: Literal["at_most", "at_least", "below", "above"]
    value: float

    def holds(self, fact: Any) -> bool:
        """Whether it does for this value of the field."""
        return fact is not None and bool(_BOUNDS[self.operator](fact, self.value))


class Contains(_Model):
    """Whether the field is a list that contains the text."""

    field: str
    operator: Literal["contains"]
    value: str

    def holds(self, fact: Any) -> bool:
        """Whether it does for this value of the field."""
        return self.value in fact


Condition = Annotated[Equals | OneOf | Bound | Contains, Field(discriminator="operator")]


class Policy(_Model):
    """Opens a case with this reason and priority for an event, when its conditions hold."""

    position: int
    name: Annotated[str, Field(pattern=_NAME)]
    event: Trigger
    reason: EscalationReason
    priority: Priority
    all: list[Condition] = []
    any: list[Condition] = []

    @model_validator(mode="after")
    def _conditions_fit_the_event(self) -> Self:
        for condition in (*self.all, *self.any):
            if condition.field not in FIELDS[self.event]:
                known = ", ".join(sorted(FIELDS[self.event]))
                raise ValueError(f"{self.event} has no field {condition.field!r}; its fields are {known}")
            right = Bound if condition.field in _NUMBERS else Contains if condition.field in _LISTS else Equals | OneOf
            if not isinstance(condition, right):
                raise ValueError(f"operator {condition.operator} does not fit the field {condition.field!r}")
        return self

    def holds(self, event: Event, customer: Customer | None) -> bool:
        """Whether all conditions in `all` hold and, if `any` has conditions, at least one of those."""
        return all(c.holds(fact(c.field, event, customer)) for c in self.all) and (
            not self.any or any(c.holds(fact(c.field, event, customer)) for c in self.any)
        )


class FirstResponse(_Model):
    """Targets of the first-response clock in seconds, and the share of a target after which sla.warned is published."""

    target_seconds: dict[Priority, Annotated[int, Field(gt=0, le=31_622_400)]]
    warn_at: Annotated[float, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _has_every_priority(self) -> Self:
        missing = [priority for priority in Priority if priority not in self.target_seconds]
        if missing:
            raise ValueError(f"target_seconds lacks {', '.join(missing)}")
        return self


class Policies(_Model):
    """The policy file."""

    first_response: FirstResponse
    policies: list[Policy]

    @model_validator(mode="after")
    def _positions_and_names_are_unique(self) -> Self:
        for attribute in ("position", "name"):
            values = [getattr(policy, attribute) for policy in self.policies]
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"two policies have the {attribute} {twice[0]}")
        return self

    @field_validator("policies")
    @classmethod
    def _in_order(cls, policies: list[Policy]) -> list[Policy]:
        return sorted(policies, key=lambda policy: policy.position)

    def match(self, event: Event, customer: Customer | None) -> Policy | None:
        """The first policy, by position, that holds for the event and its customer; None if none holds."""
        return next((p for p in self.policies if p.event == event.type and p.holds(event, customer)), None)


def fact(field: str, event: Event, customer: Customer | None) -> Any:
    """The value of the field that a condition tests; None if it is missing."""
    owner, _, name = field.rpartition(".")
    if owner:
        return getattr(customer, name, None)
    if field == "normalised_score":
        assert isinstance(event, FeedbackSubmitted)
        return normalised_score(event)
    return getattr(event, field)


def normalised_score(event: FeedbackSubmitted) -> float | None:
    """The score's position on its scale, from 0 (lowest) to 1 (highest); None without a score or a valid scale."""
    score = event.score
    if score is None or score.min >= score.max:
        return None
    return (score.value - score.min) / (score.max - score.min)


def load(path: Path) -> Policies:
    """Load a policy file. Raises UsageError that names the file, the place in it and the mistake."""
    try:
        return Policies.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"policy file {path} cannot be read: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, e['loc'])) or 'the file'}: {reason(e)}" for e in error.errors()]
        raise UsageError(f"policy file {path} is not valid: {'; '.join(wrong)}") from None
