from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from escalation_svc.config import SHIPPED
from escalation_svc.customers.service import Customer
from escalation_svc.policies.service import FIELDS, Policies, fact, load
from touchpoint.base.errors import UsageError
from touchpoint.contracts.base import Event
from touchpoint.contracts.touchpoints import FeedbackSubmitted
from touchpoint.testing import factories as make
from touchpoint.testing.policies import policy, timing

KEY = Customer("acme", "customer-1", tier="key")

TIMING = timing()


def rating(value: float, low: float, high: float, kind: str = "rating") -> Event:
    return make.feedback(kind=kind, score={"value": value, "min": low, "max": high})


def policies(*given_: dict[str, Any]) -> Policies:
    return Policies.model_validate({"first_response": TIMING, "policies": list(given_)})


def matched(policies: Policies, event: Event, customer: Customer | None = KEY) -> str | None:
    policy = policies.match(event, customer)
    return policy and policy.name


def holds(condition: dict[str, Any], event: Event, customer: Customer | None = KEY) -> bool:
    return matched(policies(policy(event=event.type, all=[condition])), event, customer) is not None


def load_broken(tmp_path: Path, text: str) -> str:
    path = tmp_path / "policies.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as refused:
        load(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(("score", "name"), [(0, "key-account-detractor"), (6, "key-account-detractor"), (7, None)])
def test_as_shipped_a_key_accounts_detractor_opens_a_case(score: int, name: str | None) -> None:
    assert matched(load(SHIPPED), make.feedback(score=score)) == name


@pytest.mark.parametrize("kind", ["rating", "csat", "review"])
@pytest.mark.parametrize(
    ("value", "low", "high", "opens"),
    [(1, 1, 5, True), (2, 1, 5, True), (3, 1, 5, False), (2, 1, 3, False), (2, 0, 8, True), (3, 0, 8, False)],
)
def test_as_shipped_a_rating_is_low_relative_to_its_own_scale(
    kind: str, value: float, low: float, high: float, opens: bool
) -> None:
    assert (matched(load(SHIPPED), rating(value, low, high, kind)) == "key-account-low-rating") is opens


@pytest.mark.parametrize("customer", [None, Customer("acme", "customer-1"), Customer("acme", "customer-1", tier="big")])
def test_as_shipped_other_customers_feedback_opens_no_case(customer: Customer | None) -> None:
    assert matched(load(SHIPPED), make.feedback(score=0), customer) is None
    assert matched(load(SHIPPED), rating(1, 1, 5), customer) is None


def test_as_shipped_effort_opens_no_case_because_which_end_is_bad_is_not_known() -> None:
    assert matched(load(SHIPPED), make.feedback(kind="ces", score=1)) is None


@pytest.mark.parametrize(("priority", "name"), [("urgent", "urgent-ticket"), ("high", None)])
def test_as_shipped_an_urgent_ticket_opens_a_case_for_any_customer(priority: str, name: str | None) -> None:
    assert matched(load(SHIPPED), make.ticket_opened(priority=priority), None) == name


def test_as_shipped_every_breach_opens_a_case() -> None:
    assert matched(load(SHIPPED), make.sla_breached(priority="low"), None) == "first-response-breached"


def test_of_the_policies_that_hold_the_one_with_the_lowest_position_wins() -> None:
    never = policy("never", 1, all=[{"field": "kind", "operator": "is", "value": "call"}])
    assert matched(policies(policy("third", 3), policy("second", 2), never), make.feedback()) == "second"


@given(st.permutations([policy(f"p{n}", n) for n in range(1, 5)]))
def test_the_order_of_policies_in_the_file_does_not_matter(given_: list[dict[str, Any]]) -> None:
    assert matched(policies(*given_), make.feedback()) == "p1"


def test_all_conditions_of_all_must_hold_and_one_of_any() -> None:
    email, app = ({"field": "channel", "operator": "is", "value": value} for value in ("email", "app"))
    nps, csat = ({"field": "kind", "operator": "is", "value": value} for value in ("nps", "csat"))
    event = make.feedback(kind="nps", channel="email")
    assert matched(policies(policy(all=[email, nps])), event)
    assert not matched(policies(policy(all=[email, csat])), event)
    assert matched(policies(policy(all=[nps], any=[app, email])), event)
    assert not matched(policies(policy(all=[nps], any=[app, csat])), event)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"field": "channel", "operator": "is", "value": "email"}, True),
        ({"field": "channel", "operator": "is_not", "value": "email"}, False),
        ({"field": "channel", "operator": "one_of", "value": ["app", "email"]}, True),
        ({"field": "channel", "operator": "none_of", "value": ["app", "email"]}, False),
        ({"field": "normalised_score", "operator": "at_most", "value": 0.9}, True),
        ({"field": "normalised_score", "operator": "at_least", "value": 0.9}, True),
        ({"field": "normalised_score", "operator": "below", "value": 0.9}, False),
        ({"field": "normalised_score", "operator": "above", "value": 0.9}, False),
        ({"field": "customer.annual_recurring_revenue", "operator": "above", "value": 1000}, True),
        ({"field": "product", "operator": "is", "value": "desk"}, False),
        ({"field": "product", "operator": "is_not", "value": "desk"}, True),
        ({"field": "product", "operator": "none_of", "value": ["desk"]}, True),
    ],
)
def test_each_operator_compares_as_its_name_says(condition: dict[str, Any], expected: bool) -> None:
    customer = Customer("acme", "customer-1", annual_recurring_revenue=Decimal("1000.01"))
    assert holds(condition, make.feedback(score=9, channel="email"), customer) is expected


def test_a_list_contains_a_text() -> None:
    event = make.ticket_opened(tags=["damaged", "delivery"])
    assert holds({"field": "tags", "operator": "contains", "value": "delivery"}, event)
    assert not holds({"field": "tags", "operator": "contains", "value": "deliver"}, event)


@pytest.mark.parametrize("operator", ["at_most", "at_least", "below", "above"])
@pytest.mark.parametrize("field", ["normalised_score", "customer.annual_recurring_revenue"])
def test_a_missing_number_is_within_no_bound(field: str, operator: str) -> None:
    condition = {"field": field, "operator": operator, "value": 0}
    assert not holds(condition, make.feedback(kind="text", score=None), KEY)
    assert not holds(condition, make.feedback(kind="text", score=None), None)


def test_a_score_without_a_scale_is_not_compared() -> None:
    data = b'{"kind": "rating", "channel": "web", "score": {"value": 1, "min": 1, "max": 1}}'
    event = FeedbackSubmitted.read_tolerantly(data)
    assert not holds({"field": "normalised_score", "operator": "at_most", "value": 1}, event)


def test_an_unknown_value_of_a_newer_version_is_compared_like_any_other() -> None:
    event = FeedbackSubmitted.read_tolerantly(b'{"kind": "smile", "channel": "hologram"}')
    assert not holds({"field": "channel", "operator": "is", "value": "email"}, event)
    assert holds({"field": "channel", "operator": "is", "value": "hologram"}, event)


@pytest.mark.parametrize("event", [make.feedback(), make.ticket_opened(), make.sla_breached()])
def test_every_field_that_a_policy_may_test_can_be_read(event: Event) -> None:
    for field in FIELDS[event.type]:
        fact(field, event, KEY)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (policy(all=[{"field": "scor", "operator": "is", "value": "x"}]), "no field 'scor'; its fields are channel, "),
        (policy(event="ticket.opened", all=[{"field": "kind", "operator": "is", "value": "nps"}]), "no field 'kind'"),
        (policy(all=[{"field": "kind", "operator": "at_most", "value": 1}]), "at_most does not fit the field 'kind'"),
        (policy(all=[{"field": "normalised_score", "operator": "is", "value": "1"}]), "is does not fit the field"),
        (policy(all=[{"field": "kind", "operator": "like", "value": "x"}]), "policies.0.all.0: "),
        (policy(all=[{"field": "kind", "operator": "one_of", "value": "nps"}]), "policies.0.all.0.one_of.value: "),
        (policy(reason="anger"), "policies.0.reason: must be one of: 'detractor', "),
        (policy(event="feedback.recorded"), "policies.0.event: "),
        (policy(name="Has Spaces"), "policies.0.name: "),
        (policy(condition=[]), "policies.0.condition: is not known here"),
    ],
)
def test_an_invalid_policy_is_refused_and_the_error_names_its_place(
    tmp_path: Path, broken: dict[str, Any], message: str
) -> None:
    assert message in load_broken(tmp_path, yaml.safe_dump({"first_response": TIMING, "policies": [broken]}))


@pytest.mark.parametrize(
    ("timing", "message"),
    [
        ({"warn_at": 1}, "first_response.warn_at: "),
        ({"target_seconds": {"urgent": 900}}, "target_seconds lacks low, normal, high"),
        ({"target_seconds": TIMING["target_seconds"] | {"low": 0}}, "first_response.target_seconds.low: "),
        ({"target_seconds": TIMING["target_seconds"] | {"soon": 5}}, "first_response.target_seconds.soon"),
    ],
)
def test_an_invalid_setting_of_the_clock_is_refused_and_the_error_names_its_place(
    tmp_path: Path, timing: dict[str, Any], message: str
) -> None:
    assert message in load_broken(tmp_path, yaml.safe_dump({"first_response": TIMING | timing, "policies": []}))


@pytest.mark.parametrize(("what", "other"), [("position", {"name": "q"}), ("name", {"position": 2})])
def test_two_policies_with_the_same_position_or_name_are_refused(
    tmp_path: Path, what: str, other: dict[str, Any]
) -> None:
    text = yaml.safe_dump({"first_response": TIMING, "policies": [policy(), policy(**other)]})
    assert f"two policies have the {what}" in load_broken(tmp_path, text)


@pytest.mark.parametrize("text", ["policies: [", "", "just a text"])
def test_a_file_that_is_not_a_policy_file_is_refused(tmp_path: Path, text: str) -> None:
    load_broken(tmp_path, text)


def test_a_missing_policy_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"missing\.yaml cannot be read: .*No such file"):
        load(tmp_path / "missing.yaml")
