"""The addresses of clients without an API key, by which their requests are limited."""

import hashlib
import secrets
from ipaddress import IPv6Address, ip_address

from starlette.types import Scope

from gateway.door.service import header

IPV6_NETWORK_BITS = 64
"""Prefix length by which IPv6 clients are limited: a client can change its address within its network at will."""


class Addresses:
    """Finds the address of a request's client, and returns its hash: addresses must not get into logs.

    `forwarded`: the header in which a proxy in front of the gateway sends the address, as the last entry of a list.
    """

    def __init__(self, forwarded: str | None) -> None:
        self._forwarded = forwarded.lower().encode() if forwarded else None
        self._salt = secrets.token_bytes(16)

    def hash_of(self, scope: Scope) -> str:
        """The hash of the client's address; another process has another salt and so another hash."""
        return hashlib.blake2b(self._network(scope).encode(), key=self._salt, digest_size=8).hexdigest()

    def _network(self, scope: Scope) -> str:
        client = scope.get("client")
        given = client[0] if client else ""
        if self._forwarded is not None and (entries := header(scope, self._forwarded)) is not None:
            given = entries.rpartition(",")[2].strip()
        try:
            address = ip_address(given)
        except ValueError:
            return given
        if isinstance(address, IPv6Address):
            return str(int(address) >> (128 - IPV6_NETWORK_BITS))
        return str(address)
