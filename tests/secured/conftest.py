"""Touchpoint on servers with authentication: each service as its own user, with the rights of the deployment."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.secured.servers import Secured, secured_servers
from touchpoint.db import databases
from touchpoint.kafka import admin
from touchpoint.testing.servers import Servers
from touchpoint.testing.system import READS, SERVICES, System


@pytest.fixture(scope="package")
async def secured() -> AsyncIterator[Secured]:
    async with secured_servers() as servers:
        yield servers


@dataclass
class SecuredSystem(System):
    """A system none of whose processes is a superuser of Kafka or PostgreSQL."""

    secured: Secured | None = None

    async def prepare(self) -> None:
        """An administrator's one-time setup: topics, users' ACLs, a database with its own owner for each service."""
        assert self.secured
        await admin.provision(self.kafka, READS)
        await self.secured.let_in(self.kafka.topic_prefix)
        for service in SERVICES:
            await databases.create(self.servers.dsn, self.databases[service])
            await self.secured.execute(*_handed_over(self.databases[service], service))
            kafka = self.secured.kafka_as(service)
            self.own[service] = {
                "DATABASE_URL": self.secured.dsn_as(service, self.databases[service]),
                "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
                "KAFKA_SECURITY_PROTOCOL": kafka.security_protocol,
                "KAFKA_SASL_USERNAME": service,
                "KAFKA_SASL_PASSWORD": self.secured.passwords[service],
                "KAFKA_SSL_CAFILE": str(self.secured.ca),
            }
            assert await self.run_part((service, "migrate")) == 0, self.logs

    def environment_of_operators(self, service: str) -> dict[str, str]:
        """The environment of operators' commands on a service: its database, and Kafka as the user `operator`."""
        assert self.secured
        kafka = {"KAFKA_SASL_USERNAME": "operator", "KAFKA_SASL_PASSWORD": self.secured.passwords["operator"]}
        return {**self.own[service], **kafka, "KAFKA_TOPIC_PREFIX": self.kafka.topic_prefix}


def _handed_over(database: str, service: str) -> list[str]:
    """Statements of an administrator for a service's database: its owner, no access for others, and the API's role."""
    role = f"{service.replace('-', '_')}_api"
    return [
        f'ALTER DATABASE "{database}" OWNER TO "{service}"',
        f'REVOKE CONNECT ON DATABASE "{database}" FROM PUBLIC',
        f"CREATE ROLE {role} NOLOGIN",
        f'GRANT {role} TO "{service}"',
    ]


@pytest.fixture(scope="package")
async def system(secured, tmp_path_factory) -> AsyncIterator[SecuredSystem]:
    servers = Servers(secured.kafka, secured.dsn)
    made = SecuredSystem(servers, tmp_path_factory.mktemp("secured"), secured=secured)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()
