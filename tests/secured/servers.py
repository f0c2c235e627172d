"""A Kafka and a PostgreSQL that require TLS and passwords, and give each user only its own rights.

Kafka's users are those of `deploy/k8s/kafka/users.yaml`, so the tests use the deployed rights.
"""

import asyncio
import io
import platform
import secrets
import shutil
import tarfile
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import trustme
import yaml
from aiokafka.protocol.admin import CreateAclsRequest
from cryptography.hazmat.primitives import serialization
from jgo.maven import MavenContext

from touchpoint.base.settings import KafkaSettings
from touchpoint.kafka import admin
from touchpoint.local import jars
from touchpoint.local.kafka import Kafka, cluster
from touchpoint.local.postgres import Postgres, system_user
from touchpoint.local.process import Process
from touchpoint.testing import ports
from touchpoint.testing.servers import new_folder

USERS = Path(__file__).parents[2] / "deploy" / "k8s" / "kafka" / "users.yaml"
HOST = "127.0.0.1"

_POSTGRES = "io.zonky.test.postgres:embedded-postgres-binaries-linux-{}:18.1.0"
_BUILDS = {
    "x86_64": ("amd64", "65d0723e0274ad3ec6230dcbdfe034af6ee096fce15a77b0f9b8be71d2702934"),
    "aarch64": ("arm64v8", "ea0f16b754fc0a10d9d8993bbd426c20f8c709b318b28e49b42d9cac1c958b8f"),
}
"""Builds of PostgreSQL with TLS, by machine, and their SHA-256: the wheel's PostgreSQL is built without TLS."""

_OPERATIONS = {"Read": 3, "Write": 4, "Create": 5, "Delete": 6, "Alter": 7, "Describe": 8, "DescribeConfigs": 10}
_RESOURCES = {"topic": 2, "group": 3, "cluster": 4}
_LITERAL = 3
_ALLOW = 3


@dataclass(frozen=True)
class Secured:
    """The addresses, certificates and passwords of both servers."""

    kafka: KafkaSettings
    """An administrator's settings; no user of Touchpoint has them."""
    dsn: str
    """An administrator's URL, through a Unix socket."""
    kafka_address: str
    postgres_port: int
    ca: Path
    passwords: dict[str, str]
    """By user; both servers have the same passwords."""

    def kafka_as(self, user: str, prefix: str = "") -> KafkaSettings:
        """A user's settings for Kafka."""
        return KafkaSettings(
            bootstrap_servers=self.kafka_address,
            security_protocol="SASL_SSL",
            sasl_username=user,
            sasl_password=self.passwords[user],
            ssl_cafile=str(self.ca),
            topic_prefix=prefix,
        )

    def dsn_as(self, user: str, database: str, options: str = "") -> str:
        """A user's URL of a database."""
        options = options or f"sslmode=verify-full&sslrootcert={self.ca}"
        return f"postgresql://{user}:{self.passwords[user]}@{HOST}:{self.postgres_port}/{database}?{options}"

    async def let_in(self, prefix: str) -> None:
        """Grant every user the rights of the deployment, on topics and groups with this prefix."""
        async with admin.connected(self.kafka) as client:
            for user, acl in rights():
                for operation in acl["operations"]:
                    kind, name = acl["resource"]["type"], acl["resource"]["name"]
                    request = CreateAclsRequest(
                        _RESOURCES[kind],
                        name if name == "*" else prefix + name,
                        _LITERAL,
                        f"User:{user}",
                        "*",
                        _OPERATIONS[operation],
                        _ALLOW,
                    )
                    answer = await client._send_to_controller(request)
                    assert all(code == 0 for code, _ in answer.creation_responses), answer

    async def execute(self, *statements: str, database: str = "postgres") -> None:
        """Execute statements in PostgreSQL as its administrator."""
        connection = await asyncpg.connect(self.dsn.replace("/postgres?", f"/{database}?"))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()


def rights() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each user with each of its ACLs, as deployed."""
    for user in yaml.safe_load_all(USERS.read_text()):
        for acl in user["spec"]["authorization"]["acls"]:
            yield user["metadata"]["name"], acl


@asynccontextmanager
async def secured_servers() -> AsyncIterator[Secured]:
    """Start both servers; stop and delete them at the end."""
    folder, processes = new_folder(), list[Process]()
    folder.mkdir(mode=0o711, parents=True)
    try:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "ca.pem")
        certificate = authority.issue_cert(HOST)
        passwords = {name: secrets.token_urlsafe(16) for name in {user for user, _ in rights()}}
        kafka_port, postgres_port = ports.reserve(2)
        made = [
            await _kafka(folder, certificate, kafka_port, passwords),
            await asyncio.to_thread(_postgres, folder, certificate, postgres_port),
        ]
        processes += [server.prepare().start() for server in made]
        await asyncio.gather(*(server.ready(process) for server, process in zip(made, processes, strict=True)))
        secured = Secured(
            KafkaSettings(bootstrap_servers=made[0].address),
            made[1].address,
            f"{HOST}:{kafka_port}",
            postgres_port,
            folder / "ca.pem",
            passwords,
        )
        await secured.execute(*(f"CREATE ROLE \"{user}\" LOGIN PASSWORD '{word}'" for user, word in passwords.items()))
        yield secured
    finally:
        await asyncio.gather(*(process.stop() for process in processes))
        shutil.rmtree(folder)


async def _kafka(folder: Path, certificate: trustme.LeafCert, port: int, passwords: dict[str, str]) -> Kafka:
    """A broker with a listener for users; the other listeners are for the broker itself and the administrator."""
    plain, controller = ports.reserve(2)
    store = folder / "kafka.pem"
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    store.touch(0o600)
    store.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    )
    class_path = await jars.class_path(lambda *_: None)
    [broker] = cluster(folder, folder, [(plain, controller)], class_path)
    listeners = f"PLAINTEXT://{HOST}:{plain},USERS://{HOST}:{port}"
    settings = {
        "listeners": f"{listeners},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,USERS:SASL_SSL",
        "inter.broker.listener.name": "PLAINTEXT",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.users.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(store),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    return replace(broker, settings=tuple(settings.items()), users=tuple(passwords.items()))


def _postgres(folder: Path, certificate: trustme.LeafCert, port: int) -> Postgres:
    if platform.machine() not in _BUILDS:
        pytest.skip(f"there is no PostgreSQL with TLS for {platform.machine()} to try it on")
    build, digest = _BUILDS[platform.machine()]
    installation = folder / "postgresql-with-tls"
    with zipfile.ZipFile(jars.fetch(MavenContext(), _POSTGRES.format(build), digest)) as jar:
        [name] = (name for name in jar.namelist() if name.endswith(".txz"))
        with tarfile.open(fileobj=io.BytesIO(jar.read(name))) as programs:
            programs.extractall(installation)
    key, chain, rules = folder / "postgres.key", folder / "postgres.pem", folder / "pg_hba.conf"
    key.touch(0o600)
    certificate.private_key_pem.write_to_path(key)
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    rules.write_text("local all postgres trust\nhostssl all all samehost scram-sha-256\n")
    if user := system_user():
        shutil.chown(key, user, user)
    settings = {
        "listen_addresses": HOST,
        "port": str(port),
        "ssl": "on",
        "ssl_cert_file": str(chain),
        "ssl_key_file": str(key),
        "hba_file": str(rules),
        "max_connections": "200",
        "fsync": "off",
    }
    return Postgres(folder / "postgres", folder / "postgres.log", tuple(settings.items()), installation)
