"""The error when a server refuses a connection: one line that names the setting and contains no secret."""

import pytest
import trustme
from pydantic import SecretStr

from touchpoint.base.errors import UnreachableError
from touchpoint.db import databases
from touchpoint.kafka import admin
from touchpoint.testing.system import SERVICES

pytestmark = pytest.mark.servers

SECRET = "not-the-password"
STRANGER = "stranger.pem"


@pytest.fixture(autouse=True)
def stranger(tmp_path, monkeypatch):
    """The certificate of an authority that signed none of the servers' certificates."""
    monkeypatch.chdir(tmp_path)
    trustme.CA().cert_pem.write_to_path(STRANGER)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sasl_password": SecretStr(SECRET)}, "refuses KAFKA_SASL_USERNAME with KAFKA_SASL_PASSWORD"),
        ({"sasl_username": "nobody"}, "refuses KAFKA_SASL_USERNAME with KAFKA_SASL_PASSWORD"),
        ({"ssl_cafile": STRANGER}, "check KAFKA_SSL_CAFILE"),
        ({"security_protocol": "SASL_PLAINTEXT"}, "are KAFKA_BOOTSTRAP_SERVERS and KAFKA_SECURITY_PROTOCOL right"),
        ({"security_protocol": "PLAINTEXT"}, "are KAFKA_BOOTSTRAP_SERVERS and KAFKA_SECURITY_PROTOCOL right"),
    ],
)
async def test_the_error_of_a_refused_kafka_connection_names_the_setting(secured, wrong, message):
    with pytest.raises(UnreachableError, match=message) as refused:
        async with admin.connected(secured.kafka_as("feedback-svc").model_copy(update=wrong)):
            pass
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("sslmode=disable", "no encryption"),
        (f"sslmode=verify-full&sslrootcert={STRANGER}", "CERTIFICATE_VERIFY_FAILED"),
    ],
)
async def test_postgresql_requires_tls_and_its_certificate_is_verified(system, options, message):
    url = system.secured.dsn_as("feedback-svc", system.databases["feedback-svc"], options)
    with pytest.raises(UnreachableError, match=message):
        async with databases.connected(url):
            pass


async def test_the_error_about_a_wrong_password_does_not_contain_it(system):
    url = system.own["feedback-svc"]["DATABASE_URL"].replace(system.secured.passwords["feedback-svc"], SECRET)
    with pytest.raises(UnreachableError, match="password authentication failed") as refused:
        async with databases.connected(url):
            pass
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_may_connect_only_to_its_own_database(system, service):
    for other, database in system.databases.items():
        url = system.secured.dsn_as(service, database)
        if other == service:
            async with databases.connected(url) as connection:
                assert await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            continue
        with pytest.raises(UnreachableError, match="permission denied for database"):
            async with databases.connected(url):
                pass
