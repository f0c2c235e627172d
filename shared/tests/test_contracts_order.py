from touchpoint.contracts.order import Told, last_words
from touchpoint.testing import factories as make

FIELDS = frozenset({"tier", "segment"})


def test_each_field_is_as_the_latest_event_that_gives_it_says_whichever_comes_first() -> None:
    told: Told = {}
    later = make.customer_updated(tier="basic", partition=1, offset=9)
    earlier = make.customer_updated(tier="key", segment="smb", partition=1, offset=3)
    assert last_words(told, later, FIELDS) == ["tier"]
    assert last_words(told, earlier, FIELDS) == ["segment"]
    assert told == {"tier": [1, 9], "segment": [1, 3]}


def test_the_same_event_again_is_heard_again() -> None:
    event = make.customer_updated(tier="key", partition=1, offset=3)
    told: Told = {}
    assert last_words(told, event, FIELDS) == last_words(told, event, FIELDS) == ["tier"]


def test_between_partitions_whoever_is_applied_last_is_heard() -> None:
    told: Told = {"tier": [1, 9]}
    assert last_words(told, make.customer_updated(tier="key", partition=2, offset=3), FIELDS) == ["tier"]


def test_fields_nobody_keeps_are_left_out() -> None:
    told: Told = {}
    assert last_words(told, make.customer_updated(name="Nordwind"), FIELDS) == []
    assert told == {}
