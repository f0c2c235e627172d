"""Authentication between gateway and services: the gateway signs a short-lived token for each request it forwards."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import jwt
from fastapi import Depends, Request
from pydantic import SecretStr

from touchpoint.http.errors import ProblemError

LIFETIME_SECONDS = 60
REUSE_SECONDS = 20
_ISSUER = "gateway"


@dataclass(frozen=True, slots=True)
class Caller:
    """The owner of an API key: its tenant, scopes, public prefix and name."""

    tenant: str
    scopes: frozenset[str]
    key: str
    name: str = ""

    @property
    def who(self) -> str:
        """The caller as the audit trail names it: the key's public prefix and name."""
        return f"key:{self.key} ({self.name})"

    def require(self, scope: str) -> None:
        """Raise ProblemError 403 unless the key has this scope."""
        if scope not in self.scopes:
            raise ProblemError(403, "missing-scope", f"This API key lacks the scope {scope}.")


PUBLIC = Caller("", frozenset(), "public")
"""The caller of a public route without an API key: it has no tenant and no scope."""


def sign(caller: Caller, audience: str, secret: SecretStr) -> str:
    """A token for one service (`audience`). It is reused for REUSE_SECONDS, as signing takes time."""
    return _signed(caller, audience, secret, int(time.time()) // REUSE_SECONDS)


@lru_cache(1000)
def _signed(caller: Caller, audience: str, secret: SecretStr, period: int) -> str:
    claims = {
        "iss": _ISSUER,
        "aud": audience,
        "exp": period * REUSE_SECONDS + LIFETIME_SECONDS,
        "tenant": caller.tenant,
        "scopes": sorted(caller.scopes),
        "key": caller.key,
        "name": caller.name,
    }
    return jwt.encode(claims, secret.get_secret_value(), algorithm="HS256")


def verify(token: str, audience: str, secrets: Sequence[SecretStr]) -> Caller:
    """The caller that a token identifies; raises ProblemError 401 if the gateway did not sign it or it has expired."""
    caller, expires = _read(token, audience, tuple(secrets))
    if expires <= time.time():
        raise _not_the_gateway()
    return caller


@lru_cache(1000)
def _read(token: str, audience: str, secrets: tuple[SecretStr, ...]) -> tuple[Caller, int]:
    """The caller, and when the token expires. Invalid tokens are not cached."""
    for secret in secrets:
        try:
            claims = jwt.decode(
                token,
                secret.get_secret_value(),
                algorithms=["HS256"],
                audience=audience,
                issuer=_ISSUER,
                options={"require": ["exp", "tenant", "scopes", "key"]},
            )
        except jwt.InvalidSignatureError:
            continue
        except jwt.InvalidTokenError:
            break
        name = claims.get("name", "")  # a gateway of an older version does not set it
        return Caller(claims["tenant"], frozenset(claims["scopes"]), claims["key"], name), int(claims["exp"])
    raise _not_the_gateway()


def _not_the_gateway() -> ProblemError:
    return ProblemError(401, "not-the-gateway", "Services answer only the gateway; call the gateway instead.")


async def current(request: Request) -> Caller:
    """FastAPI dependency: the caller, who must have an API key. Raises ProblemError 401 or 403.

    Reads `name` (the audience) and `token_secrets` from the application's state.
    """
    caller = await current_or_public(request)
    if not caller.tenant:
        raise ProblemError(403, "key-required", "Only a caller with an API key may do this.")
    return caller


async def current_or_public(request: Request) -> Caller:
    """FastAPI dependency of a public route: the caller, or PUBLIC. Raises ProblemError 401 on an invalid token.

    A public caller has no tenant: the route determines it, such as from its path, and does the authorization itself.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        token = ""
    return verify(token, request.app.state.name, request.app.state.token_secrets)


def allowed(scope: str) -> Callable[[Caller], Awaitable[Caller]]:
    """A dependency that returns the caller if its key has the scope: `Depends(allowed("feedback:read"))`."""

    async def check(caller: Annotated[Caller, Depends(current)]) -> Caller:
        caller.require(scope)
        return caller

    return check
