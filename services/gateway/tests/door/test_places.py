"""The limit of requests in work at once: the shares of keys and tenants, and the release of places."""

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
    """Take places for this caller until one is refused; returns the scopes of the requests that have a place."""
    scopes = list[dict]()
    with pytest.raises(ProblemError) as refused:
        while True:
            scope: dict = {}
            places.take(scope, caller)
            scopes.append(scope)
    assert (refused.value.problem.status, refused.value.headers["Connection"]) == (429, "close")
    return scopes


def test_a_key_alone_gets_a_third_of_the_places_and_its_tenant_half():
    places = Places(MOST)
    assert len(taken(places, holder("acme", "one"))) == MOST / 3
    assert len(taken(places, holder("acme", "two"))) == MOST / 6


def test_each_of_eight_tenants_gets_places_after_the_others_took_all_they_may():
    places = Places(800)
    assert all(len(taken(places, holder(f"tenant-{number}"))) > 0 for number in range(8))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.booleans()), max_size=300))
def test_a_place_is_always_free_and_released_places_can_be_taken_again(steps):
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


def test_a_request_takes_one_place_however_often_take_is_called():
    places, scope = Places(MOST), {}
    for _ in range(MOST):
        places.take(scope, holder("acme"))
    places.release(scope)
    places.release(scope)
    with pytest.raises(KeyError):
        scope["touchpoint.place"]
    assert len(taken(places, holder("acme"))) == MOST / 3
