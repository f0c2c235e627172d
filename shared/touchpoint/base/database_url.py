"""URLs of PostgreSQL databases: validate them, address another database of the server, hide the password."""

import re
from urllib.parse import parse_qsl, urlsplit

FORM = (
    "postgresql://user:password@host:port/database, with / ? # @ [ ] and % in the password percent-encoded (a slash "
    "is %2F)"
)
"""The required form of a URL, for error messages."""

_HOST = r"(?:[\w.-]*|\[[\da-fA-F:.]+\])(?::\d+)?"
_URL = re.compile(
    rf"(?P<scheme>postgres(?:ql)?(?:\+asyncpg)?://)(?:(?P<user>[^:/?#@\[\]]*)(?::[^/?#@\[\]]*)?@)?"
    rf"(?P<place>{_HOST}(?:,{_HOST})*(?:/[^/?#@]*)?)(?:\?(?P<query>[^#@]*))?"
)
_SHOWN = ("host", "port")


def is_url(dsn: str) -> bool:
    """Whether this is a well-formed database URL. A malformed one might be split in the middle of its password."""
    return _URL.fullmatch(dsn) is not None


def named(dsn: str, database: str) -> str:
    """The URL of another database on the same server."""
    return urlsplit(dsn)._replace(path=f"/{database}").geturl()


def without_password(dsn: str) -> str:
    """The URL without password and without parameters other than host and port, for messages and logs."""
    url = _URL.fullmatch(dsn)
    if url is None:
        return "a URL that cannot be read"
    user = f"{url['user']}@" if url["user"] is not None else ""
    shown = "&".join(f"{name}={value}" for name, value in parse_qsl(url["query"] or "") if name in _SHOWN)
    return f"{url['scheme']}{user}{url['place']}" + (f"?{shown}" if shown else "")
