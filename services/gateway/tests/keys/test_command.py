"""`touchpoint keys`, as an operator runs it."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from gateway.keys import repository
from gateway.keys.command import app
from gateway.keys.keyring import Keyring
from touchpoint.base.errors import UsageError
from touchpoint.db.engine import create_engine, transaction_on
from touchpoint.db.engine import sessions as sessions_of
from touchpoint.http.errors import ProblemError
from touchpoint.http.identity import Caller
from touchpoint.http.scopes import Scope


@pytest.fixture
def run(dsn):
    """Runs `touchpoint keys …` on a fresh database and returns what it prints."""

    async def keys(*arguments):
        result = await asyncio.to_thread(
            CliRunner().invoke, app, arguments, env={"DATABASE_URL": dsn, "COLUMNS": "200"}
        )
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    return keys


@pytest.fixture
def authorize(dsn):
    """A function that checks a token as a gateway without a cache does: returns the caller or the problem's status."""

    async def ask(token) -> Caller | int:
        engine = create_engine(dsn, "tests")
        try:
            return await Keyring(sessions_of(engine), 0).authorize(f"Bearer {token}", Scope.EVENTS_WRITE)
        except ProblemError as error:
            return error.problem.status
        finally:
            await engine.dispose()

    return ask


async def test_a_created_key_works_and_its_secret_is_shown_only_once(run, authorize):
    output = await run("create", "shop", "--tenant", "acme")

    token = output.split()[0]
    assert (await authorize(token)).tenant == "acme"
    listed = await run("list") + await run("list", "--json")
    assert token.split("_")[1] in listed
    assert token.split("_")[2] not in listed


async def test_by_default_a_key_may_send_events_and_expires_after_a_year(run):
    made = json.loads(await run("create", "shop", "--tenant", "acme", "--json"))
    assert made["scopes"] == ["events:write"]
    lifetime = datetime.fromisoformat(made["expires_at"]) - datetime.fromisoformat(made["created_at"])
    assert lifetime == timedelta(days=365)

    arguments = ("--scope", "metrics:read", "--scope", "feedback:read", "--days", "90", "--json")
    made = json.loads(await run("create", "dashboard", "--tenant", "acme", *arguments))
    assert made["scopes"] == ["feedback:read", "metrics:read"]
    assert datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC) < timedelta(days=90)


async def test_keys_are_listed_by_tenant_with_their_state(run):
    for tenant in ("acme", "globex"):
        await run("create", f"{tenant}-key", "--tenant", tenant)

    [listed] = json.loads(await run("list", "--tenant", "globex", "--json"))
    assert (listed["tenant"], listed["name"], listed["state"]) == ("globex", "globex-key", "active")
    assert listed["last_used_at"] is None
    table = await run("list")
    assert "acme-key" in table
    assert "globex-key" in table


async def test_a_rotated_key_works_with_both_secrets_unless_the_overlap_is_zero(run, authorize):
    first = json.loads(await run("create", "shop", "--tenant", "acme", "--json"))
    second = json.loads(await run("rotate", first["prefix"], "--json"))
    assert second["prefix"] == first["prefix"]
    assert (await authorize(first["token"])) == (await authorize(second["token"]))

    third = json.loads(await run("rotate", first["prefix"], "--overlap", "0", "--json"))
    assert [await authorize(key["token"]) for key in (first, second)] == [401, 401]
    assert (await authorize(third["token"])).tenant == "acme"


async def test_a_revoked_key_is_refused_and_listed_as_revoked(run, authorize):
    made = json.loads(await run("create", "shop", "--tenant", "acme", "--json"))

    assert made["prefix"] in await run("revoke", made["prefix"])

    assert await authorize(made["token"]) == 401
    assert json.loads(await run("list", "--json"))[0]["state"] == "revoked"


async def test_a_key_can_have_its_own_limits_until_they_are_removed(run, authorize):
    made = json.loads(await run("create", "shop", "--tenant", "acme", "--event-rate", "500", "--json"))
    caller = await authorize(made["token"])
    assert (caller.event_rate, caller.request_rate) == (500, None)

    limited = await run("limit", made["prefix"], "--event-rate", "2000", "--request-rate", "5")
    assert "2,000 events/s, 5 requests/s" in limited
    assert "2,000 events/s" in await run("list")
    caller = await authorize(made["token"])
    assert (caller.event_rate, caller.request_rate) == (2000, 5)

    assert "the default limits" in await run("limit", made["prefix"])
    caller = await authorize(made["token"])
    assert (caller.event_rate, caller.request_rate) == (None, None)


async def test_a_tenant_can_have_its_own_quota_until_it_is_removed(run, authorize, dsn):
    token = json.loads(await run("create", "shop", "--tenant", "acme", "--json"))["token"]
    assert "100,000 events a day; today it has sent 0." in await run("quota", "acme", "--events-per-day", "100000")
    assert (await authorize(token)).events_per_day == 100_000

    async with transaction_on(dsn, "tests") as session:
        await repository.share_days(session, {"acme": (datetime.now(UTC).date(), 70)})
    assert json.loads(await run("quota", "acme", "--json")) == {
        "tenant": "acme", "events_per_day": None, "events_today": 70,
    }  # fmt: skip
    assert (await authorize(token)).events_per_day is None


async def test_an_unknown_prefix_or_an_invalid_tenant_is_a_usage_error(run):
    with pytest.raises(UsageError, match="no key has the prefix"):
        await run("revoke", "000000000000")
    with pytest.raises(UsageError, match="is not possible"):
        await run("create", "x", "--tenant", "Not/Possible")
    with pytest.raises(UsageError, match="is not possible"):
        await run("quota", "Not/Possible")
    with pytest.raises(UsageError, match="no key has the prefix"):
        await run("limit", "000000000000")


@pytest.mark.parametrize("dsn", ["postgresql://nobody@127.0.0.1:1/none"])
async def test_an_unreachable_database_is_a_usage_error(run):
    with pytest.raises(UsageError, match="cannot be used"):
        await run("list")


async def test_a_database_that_is_not_the_gateways_is_a_usage_error(servers):
    result = await asyncio.to_thread(CliRunner().invoke, app, ["list"], env={"DATABASE_URL": servers.dsn})
    assert isinstance(result.exception, UsageError)
    assert "is this the right database" in str(result.exception)


@pytest.mark.parametrize("command", get_command(app).commands.values(), ids=lambda command: command.name)
def test_help_explains_each_command_and_its_parameters(command):
    assert command.help
    assert [parameter.name for parameter in command.params if not getattr(parameter, "help", None)] == []
