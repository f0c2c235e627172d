"""URLs of PostgreSQL databases: their form, the same server's other databases, and how they may be shown."""

import re
from urllib.parse import parse_qsl, urlsplit

FORM = (
    "postgresql://user:password@host:port/database, with / ? # @ [ ] and % in the password percent-encoded (a slash "
    "is %2F)"
)
"""What a URL must look like."""

_HOST = r"(?:[\w.-]*|\[[\da-fA-F:.]+\])(?::\d+)?"
_URL = re.compile(
    rf"(?P<scheme>postgres(?:ql)?(?:\+asyncpg)?://)(?:(?P<user>[^:/?#@\[\]]*)(?::[^/?#@\[\]]*)?@)?"
    rf"(?P<place>{_HOST}(?:,{_HOST})*(?:/[^/?#@]*)?)(?:\?(?P<query>[^#@]*))?"
)
_SHOWN = ("host", "port")


def is_url(dsn: str) -> bool:
    """Whether this has the form of a database's URL; what has not may be cut in the middle of a password."""
    return _URL.fullmatch(dsn) is not None


def named(dsn: str, database: str) -> str:
    """The URL of another database on the same server."""
    return urlsplit(dsn)._replace(path=f"/{database}").geturl()


def without_password(dsn: str) -> str:
    """The URL as it may be shown."""
    found = _URL.fullmatch(dsn)
    if found is None:
        return "a URL that cannot be read"
    user = f"{found['user']}@" if found["user"] is not None else ""
    shown = "&".join(f"{name}={value}" for name, value in parse_qsl(found["query"] or "") if name in _SHOWN)
    return f"{found['scheme']}{user}{found['place']}" + (f"?{shown}" if shown else "")
