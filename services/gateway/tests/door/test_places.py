"""Requests in work at once: shares that leave places for others, and all given back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.door.places import Places
from gateway.keys.service import Holder
from touchpoint.http.errors import ProblemError

MOST = 60


def holder(tenant: str, key: str = "") -> Holder:
    return Holder(tenant, frozenset(), key or tenant)


def taken(places: Places, caller: Holder) -> list[dict]:
    """As many as this caller gets."""
    scopes = list[dict]()
    with pytest.raises(ProblemError) as refused:
        while True:
            scope: dict = {}
            places.take(scope, caller)
            scopes.append(scope)
    assert (refused.value.problem.status, refused.value.headers["Connection"]) == (429, "close")
    return scopes


def test_alone_a_key_gets_a_third_and_a_tenant_half():
    places = Places(MOST)
    assert len(taken(places, holder("acme", "one"))) == MOST / 3
    assert len(taken(places, holder("acme", "two"))) == MOST / 6


def test_however_many_tenants_take_what_they_get_the_next_one_gets_some():
    places = Places(800)
    assert all(len(taken(places, holder(f"tenant-{number}"))) > 0 for number in range(8))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.booleans()), max_size=300))
def test_a_place_is_always_free_and_all_come_back(steps):
    places, held = Places(MOST), list[dict]()
    for tenant, key, gives_back in steps:
        scope: dict = {}
        try:
            places.take(scope, holder(f"t{tenant}", f"t{tenant}-{key}"))
            held.append(scope)
        except ProblemError:
            pass
        if gives_back and held:
            places.release(held.pop(0))
        assert len(held) < MOST
    for scope in held:
        places.release(scope)
    assert len(taken(places, holder("acme"))) == MOST / 3


def test_a_request_takes_one_place_however_often_it_asks():
    places, scope = Places(MOST), {}
    for _ in range(MOST):
        places.take(scope, holder("acme"))
    places.release(scope)
    places.release(scope)
    with pytest.raises(KeyError):
        scope["touchpoint.place"]
    assert len(taken(places, holder("acme"))) == MOST / 3
