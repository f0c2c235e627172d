"""API keys: creation, rotation, revocation, and their check with and without a reachable database."""

import asyncio
import contextlib
import logging
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from gateway.keys import keyring as keyring_module
from gateway.keys import repository
from gateway.keys import service as keys
from gateway.keys.decisions import Key, digest, split
from gateway.keys.keyring import Keyring
from touchpoint.base.errors import UsageError
from touchpoint.db.engine import create_engine, transaction
from touchpoint.db.engine import sessions as sessions_of
from touchpoint.http.errors import ProblemError
from touchpoint.http.identity import Caller
from touchpoint.http.scopes import Scope
from touchpoint.testing import eventually

READ = Scope.FEEDBACK_READ


@pytest.fixture
def keyring(sessions):
    return Keyring(sessions, grace_seconds=900)


@pytest.fixture
def nowhere():
    """Sessions on an unreachable database."""
    return sessions_of(create_engine("postgresql://nobody@127.0.0.1:1/none", "tests"))


def bearer(token):
    return f"Bearer {token}"


async def fails(keyring, token, status, scope=READ):
    with pytest.raises(ProblemError) as caught:
        await keyring.authorize(token and bearer(token), scope)
    assert caught.value.problem.status == status
    return caught.value


async def status_of(keyring, token):
    try:
        await keyring.authorize(bearer(token), READ)
    except ProblemError as error:
        return error.problem.status
    return 200


async def until_status(keyring, token, status):
    """Wait until the check of the key has this status."""

    async def reached():
        return await status_of(keyring, token) == status

    await eventually(reached)


async def change(sessions, prefix, **columns):
    async with transaction(sessions) as session:
        key = await repository.find(session, prefix, lock=True)
        for name, value in columns.items():
            setattr(key, name, value)


def prefix_of(token):
    return split(token)[0]


async def test_a_key_determines_tenant_and_scopes(keyring, issue):
    token = await issue(tenant="globex", scopes={Scope.FEEDBACK_READ, Scope.METRICS_READ})

    caller = await keyring.authorize(bearer(token), READ)

    assert (caller.tenant, caller.scopes) == ("globex", {"feedback:read", "metrics:read"})
    assert caller.key == prefix_of(token)
    assert (await keyring.authorize(f"bearer  {token}", READ)) == caller


async def test_a_secret_has_256_random_bits_and_only_its_hash_is_stored(sessions, issue):
    tokens = {await issue() for _ in range(20)}

    assert len({token[-64:] for token in tokens}) == 20
    assert all(len(bytes.fromhex(split(token)[1])) * 8 == 256 for token in tokens)
    async with sessions() as session:
        stored = str((await session.execute(text("SELECT api_keys::text FROM api_keys"))).all())
    assert not any(split(token)[1] in stored for token in tokens)
    assert all(digest(split(token)[1]).hex() in stored for token in tokens)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz"])
async def test_without_a_key_the_401_says_how_to_send_one(keyring, header):
    with pytest.raises(ProblemError, match="Authorization: Bearer") as caught:
        await keyring.authorize(header, READ)
    assert caught.value.problem.status == 401
    assert caught.value.headers == {"WWW-Authenticate": 'Bearer realm="touchpoint"'}


async def test_a_wrong_key_is_401_whatever_is_wrong_with_it(keyring, issue):
    token = await issue()
    last = "0" if token[-1] != "0" else "1"
    for wrong in (token[:-1] + last, token[:-1], token.upper(), f"tp_{'0' * 12}_{token[-64:]}", "x", "tp__"):
        error = await fails(keyring, wrong, 401)
        assert 'error="invalid_token"' in error.headers["WWW-Authenticate"]


async def test_a_key_without_the_scope_is_403(keyring, issue):
    error = await fails(keyring, await issue(scopes={Scope.EVENTS_WRITE}), 403)
    assert error.headers["WWW-Authenticate"].endswith('error="insufficient_scope", scope="feedback:read"')


async def test_a_key_expires_even_while_it_is_cached(keyring, sessions, issue):
    token = await issue()
    await change(sessions, prefix_of(token), expires_at=datetime.now(UTC) + timedelta(seconds=0.3))
    await keyring.authorize(bearer(token), READ)
    await until_status(keyring, token, 401)


async def test_a_revoked_key_is_refused_under_steady_traffic(keyring, sessions, issue, monkeypatch):
    monkeypatch.setattr(keyring_module, "FRESH_SECONDS", 0.05)
    token = await issue()
    await keyring.authorize(bearer(token), READ)

    async with transaction(sessions) as session:
        await keys.revoke(session, prefix_of(token))
    await until_status(keyring, token, 401)


async def test_a_key_revoked_while_it_was_idle_is_refused_at_once(keyring, sessions, issue, monkeypatch):
    monkeypatch.setattr(keyring_module, "FRESH_SECONDS", 0)
    monkeypatch.setattr(keyring_module, "STALE_SECONDS", 0)
    token = await issue()
    await keyring.authorize(bearer(token), READ)

    async with transaction(sessions) as session:
        await keys.revoke(session, prefix_of(token))
    await fails(keyring, token, 401)


def test_a_revoked_key_is_refused_within_ten_seconds():
    assert keyring_module.FRESH_SECONDS + keyring_module.STALE_SECONDS < 10
    assert keyring_module.LOAD_SECONDS < keyring_module.STALE_SECONDS


async def test_after_a_rotation_both_secrets_work_until_the_overlap_ends(sessions, issue):
    old = await issue()
    async with transaction(sessions) as session:
        new = (await keys.rotate(session, prefix_of(old), timedelta(hours=1))).token

    assert prefix_of(new) == prefix_of(old)
    for token in (old, new):
        await Keyring(sessions, 900).authorize(bearer(token), READ)

    await change(sessions, prefix_of(old), previous_until=datetime.now(UTC))
    await fails(Keyring(sessions, 900), old, 401)
    await Keyring(sessions, 900).authorize(bearer(new), READ)


async def test_a_second_rotation_invalidates_the_secret_from_before_the_first(sessions, issue):
    first = await issue()
    async with transaction(sessions) as session:
        second = (await keys.rotate(session, prefix_of(first), timedelta(hours=1))).token
        third = (await keys.rotate(session, prefix_of(first), timedelta(hours=1))).token

    await fails(Keyring(sessions, 900), first, 401)
    for token in (second, third):
        await Keyring(sessions, 900).authorize(bearer(token), READ)


async def test_a_rotation_never_extends_the_validity_of_the_old_secret(sessions, issue):
    token = await issue()
    soon = datetime.now(UTC) + timedelta(minutes=5)
    await change(sessions, prefix_of(token), expires_at=soon)

    async with transaction(sessions) as session:
        key = (await keys.rotate(session, prefix_of(token), timedelta(hours=24))).key

    assert key.previous_until == soon
    assert key.expires_at > datetime.now(UTC) + timedelta(days=364)


async def test_a_revoked_key_cannot_be_rotated_and_an_unknown_one_is_named(sessions, issue):
    prefix = prefix_of(await issue())
    async with transaction(sessions) as session:
        revoked = (await keys.revoke(session, prefix)).revoked_at
        assert (await keys.revoke(session, prefix)).revoked_at == revoked
        with pytest.raises(UsageError, match="revoked for good"):
            await keys.rotate(session, prefix, timedelta())
        with pytest.raises(UsageError, match="no key has the prefix 000000000000"):
            await keys.revoke(session, "0" * 12)


@pytest.mark.parametrize("tenant", ["", "Acme", "a:b", "-a", "a" * 64, "ä"])
async def test_an_invalid_tenant_name_is_refused(sessions, tenant):
    async with transaction(sessions) as session:
        with pytest.raises(UsageError, match="1–63"):
            await keys.create(session, tenant, "x", [READ])


async def test_without_the_database_a_cached_key_works_for_its_grace_and_another_one_is_503(
    sessions, nowhere, issue, monkeypatch
):
    monkeypatch.setattr(keyring_module, "FRESH_SECONDS", 0.01)
    monkeypatch.setattr(keyring_module, "STALE_SECONDS", 0)
    token, other = await issue(), await issue()
    keyring = Keyring(sessions, grace_seconds=0.3)
    await keyring.authorize(bearer(token), READ)

    keyring._sessions = nowhere
    await keyring.authorize(bearer(token), READ)
    unavailable = await fails(keyring, other, 503)
    assert unavailable.headers["Retry-After"]

    await until_status(keyring, token, 503)


@contextlib.asynccontextmanager
async def frozen(sessions):
    """The database accepts connections, but the table of keys is locked."""
    async with transaction(sessions) as session:
        await session.execute(text("LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE"))
        yield


@contextlib.asynccontextmanager
async def exhausted(sessions):
    """Every connection of the pool is in use."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(sessions.kw["bind"].pool.size()):
            session = await stack.enter_async_context(sessions())
            await session.execute(text("SELECT 1"))
        yield


@contextlib.asynccontextmanager
async def stubborn(_):
    """The network is silent: a query hangs, and so does its cancellation."""
    gone = asyncio.Event()

    async def find_all(*_):
        try:
            await gone.wait()
        finally:
            await gone.wait()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repository, "find_all", find_all)
        yield
    gone.set()


@pytest.fixture
async def known(keyring, issue):
    """A key that the keyring has cached."""
    token = await issue()
    await keyring.authorize(bearer(token), READ)
    return token


@pytest.fixture
async def new(issue):
    """A key that the keyring has not cached."""
    return await issue()


@pytest.mark.parametrize("trouble", [frozen, exhausted, stubborn])
async def test_a_hanging_database_does_not_stop_cached_keys(keyring, sessions, known, new, monkeypatch, trouble):
    monkeypatch.setattr(keyring_module, "LOAD_SECONDS", 0.1)
    async with trouble(sessions):
        for age in (keyring_module.FRESH_SECONDS, 3600):
            keyring._known[prefix_of(known)].fresh_until -= age
            await keyring.authorize(bearer(known), READ)
        async with asyncio.timeout(5):
            await fails(keyring, new, 503)


async def test_requests_do_not_wait_while_a_cached_key_is_read_again(keyring, known, monkeypatch):
    asked, answered = asyncio.Event(), asyncio.Event()

    async def slow(session, prefixes):
        asked.set()
        await answered.wait()
        return []

    monkeypatch.setattr(repository, "find_all", slow)
    keyring._known[prefix_of(known)].fresh_until -= keyring_module.FRESH_SECONDS
    await keyring.authorize(bearer(known), READ)
    await asked.wait()
    await keyring.authorize(bearer(known), READ)

    answered.set()
    await until_status(keyring, known, 401)


@pytest.fixture
def readings(monkeypatch):
    """The number of prefixes in each query of keys."""
    sizes, find_all = list[int](), repository.find_all

    async def counting(session, prefixes):
        sizes.append(len(prefixes))
        return await find_all(session, prefixes)

    monkeypatch.setattr(repository, "find_all", counting)
    return sizes


def guesses(count):
    return [f"tp_{number:012x}_{'0' * 64}" for number in range(count)]


async def test_concurrent_requests_with_a_key_query_it_once(keyring, new, readings):
    await asyncio.gather(*(keyring.authorize(bearer(new), READ) for _ in range(100)))
    assert readings == [1]


async def test_a_valid_key_among_guessed_ones_waits_for_two_queries_at_most(keyring, new, readings):
    wrong = [status_of(keyring, guess) for guess in guesses(300)]
    assert await asyncio.gather(*wrong, status_of(keyring, new)) == [401] * 300 + [200]
    assert len(readings) <= 2


async def test_unknown_prefixes_have_a_bounded_cache_apart_from_that_of_keys(
    keyring, known, new, readings, monkeypatch
):
    monkeypatch.setattr(keyring_module, "MAX_KEYS", 2)
    monkeypatch.setattr(keyring_module, "MAX_UNKNOWN", 10)
    await keyring.authorize(bearer(new), READ)
    for guess in guesses(30):
        await fails(keyring, guess, 401)

    assert len(keyring._unknown) == 10
    assert set(keyring._known) == {prefix_of(known), prefix_of(new)}
    del readings[:]
    for token in (known, new):
        await keyring.authorize(bearer(token), READ)
    await fails(keyring, guesses(30)[-1], 401)
    assert readings == []


async def test_keys_beyond_the_size_of_the_cache_still_work(keyring, issue, monkeypatch):
    monkeypatch.setattr(keyring_module, "MAX_KEYS", 2)
    tokens = [await issue() for _ in range(3)]
    for token in tokens * 2:
        await keyring.authorize(bearer(token), READ)
    assert len(keyring._known) == 2


async def test_when_too_many_prefixes_wait_further_ones_are_503_and_cached_keys_work(
    keyring, sessions, known, new, monkeypatch
):
    monkeypatch.setattr(keyring_module, "LOAD_SECONDS", 0.5)
    monkeypatch.setattr(keyring, "_most_waiting", 20)
    async with frozen(sessions):
        waiting = [asyncio.create_task(status_of(keyring, guess)) for guess in guesses(20)]
        await eventually(lambda: len(keyring._readings) == 20)

        assert (await fails(keyring, new, 503)).headers["Retry-After"]
        await keyring.authorize(bearer(known), READ)
        assert await asyncio.gather(*waiting) == [503] * 20
    assert keyring._readings == {}


async def test_the_last_use_of_a_key_is_not_recorded_by_requests_but_by_a_task(keyring, sessions, issue):
    token, unused = await issue(), await issue()
    before = datetime.now(UTC)
    await keyring.authorize(bearer(token), READ)
    await fails(keyring, token[:-2] + "xx", 401)

    async with sessions() as session:
        assert (await repository.find(session, prefix_of(token))).last_used_at is None
    await keyring.record_last_use()

    async with sessions() as session:
        used_at = {key.prefix: key.last_used_at for key in await repository.list_keys(session)}
    assert before <= used_at[prefix_of(token)] <= datetime.now(UTC)
    assert used_at[prefix_of(unused)] is None


async def test_a_last_use_that_could_not_be_recorded_is_recorded_the_next_time(keyring, sessions, nowhere, issue):
    token = await issue()
    await keyring.authorize(bearer(token), READ)

    keyring._sessions = nowhere
    with pytest.raises(OSError, match="Connect"):
        await keyring.record_last_use()
    keyring._sessions = sessions
    await keyring.record_last_use()

    async with sessions() as session:
        assert (await repository.find(session, prefix_of(token))).last_used_at is not None


async def test_no_secret_is_logged(keyring, issue, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    token = await issue()
    await keyring.authorize(bearer(token), READ)
    await fails(keyring, token[:-2] + ("11" if token.endswith("00") else "00"), 401)
    assert token[-60:-2] not in caplog.text + "".join(capsys.readouterr())


@given(st.text(max_size=100))
def test_no_text_but_the_current_and_the_previous_secret_opens_a_key(guess):
    now = datetime.now(UTC)
    later = now + timedelta(seconds=1)
    caller = Caller("acme", frozenset(), "prefix")
    key = Key(caller, digest("right"), digest("previous"), previous_until=later, ends=later)
    assert key.opened_by("right", now)
    assert key.opened_by("previous", now)
    assert key.opened_by(guess, now) == (guess in ("right", "previous"))
    assert not key.opened_by("right", later)
