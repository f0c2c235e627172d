"""Processes that cannot start: one line names the wrong setting and the valid values, and never contains a secret."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

SECRET = "canary-4f1d9c0b7a"
TOKENS = json.dumps([SECRET * 2])
AWAY = f"postgresql://someone:{SECRET}@127.0.0.1:1/feedback"


async def run(*arguments: str, **environment: str) -> tuple[int | None, str]:
    """The exit code and the whole output of one of our commands."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *arguments,
        env={**os.environ, "DATABASE_URL": AWAY, "INTERNAL_TOKEN_SECRETS": TOKENS, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    return process.returncode, output.decode()


@asynccontextmanager
async def refusing_postgres() -> AsyncIterator[str]:
    """A PostgreSQL that refuses every password."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            length = int.from_bytes(await reader.readexactly(4))
            request = await reader.readexactly(length - 4)
            if request[:4] != (80877103).to_bytes(4):  # SSLRequest
                break
            writer.write(b"N")
        writer.write(b"R" + (8).to_bytes(4) + (3).to_bytes(4))  # AuthenticationCleartextPassword
        await reader.readexactly(1)
        assert SECRET.encode() in await reader.read(1000)
        fields = b'SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user "someone"\0\0'
        writer.write(b"E" + (len(fields) + 4).to_bytes(4) + fields)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"postgresql://someone:{SECRET}@127.0.0.1:{server.sockets[0].getsockname()[1]}/feedback?sslmode=disable"


@pytest.mark.parametrize("command", [("feedback_svc", "api"), ("touchpoint.cli", "keys", "list")], ids=" ".join)
async def test_a_database_url_with_an_unencoded_password_is_not_shown(command):
    code, output = await run(*command, DATABASE_URL=f"postgresql://someone:p#{SECRET}@127.0.0.1/feedback")
    assert code == 2
    assert "percent-encoded" in output
    assert output.count("\n") == 1
    assert SECRET not in output


@pytest.mark.parametrize(
    "command",
    [("feedback_svc", "migrate"), ("touchpoint.cli", "keys", "list"), ("touchpoint.cli", "consumer", "list")],
    ids=" ".join,
)
async def test_an_error_about_an_unreachable_or_refusing_database_does_not_contain_the_password(command):
    async with refusing_postgres() as refusing:
        for url, why in ((refusing, "password authentication failed"), (AWAY, "127.0.0.1")):
            code, output = await run(*command, DATABASE_URL=url)
            assert code == 2
            assert why in output
            assert output.count("\n") == 1
            assert SECRET not in output


@pytest.mark.parametrize(
    "wrong",
    [
        {"INTERNAL_TOKEN_SECRETS": SECRET},
        {"INTERNAL_TOKEN_SECRETS": f'["{SECRET}"]', "DATABASE_POOL_SIZE": SECRET, "LOG_LEVEL": SECRET},
        {
            "INTERNAL_TOKEN_SECRETS": f'{{"{SECRET}": "{SECRET}"}}',
            "FEEDBACK_URL": f"http://someone:{SECRET}@[broken",
        },
        {"KAFKA_SECURITY_PROTOCOL": SECRET},
    ],
    ids=" ".join,
)
async def test_an_invalid_setting_is_named_and_its_value_is_not_shown(wrong):
    code, output = await run("gateway", "api", **wrong)
    assert code == 2
    for name in wrong:
        assert name.lower().removeprefix("kafka_") in output.lower()
    assert SECRET not in output
    assert "Traceback" not in output


async def test_an_error_about_a_refusing_broker_does_not_contain_the_password(servers):
    """The broker of the tests does not support SASL: a client with a password is refused."""
    code, output = await run(
        "feedback_svc",
        "migrate",
        DATABASE_URL=servers.dsn,
        KAFKA_BOOTSTRAP_SERVERS=servers.kafka.bootstrap_servers,
        KAFKA_SECURITY_PROTOCOL="SASL_PLAINTEXT",
        KAFKA_SASL_MECHANISM="PLAIN",
        KAFKA_SASL_USERNAME="touchpoint",
        KAFKA_SASL_PASSWORD=SECRET,
    )
    assert code != 0
    assert "Kafka" in output
    assert SECRET not in output
