"""Who is calling: the gateway signs a short-lived token for each request it passes on; services accept nothing else."""

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
    """Whoever holds the API key: its tenant, its scopes, its public prefix and the name it was given."""

    tenant: str
    scopes: frozenset[str]
    key: str
    name: str = ""

    @property
    def who(self) -> str:
        """For the trail: the key without its secret."""
        return f"key:{self.key} ({self.name})"

    def require(self, scope: str) -> None:
        """Raise 403 unless the key has this scope."""
        if scope not in self.scopes:
            raise ProblemError(403, "missing-scope", f"This API key lacks the scope {scope}.")


PUBLIC = Caller("", frozenset(), "public")
"""The caller of a public route, who has no API key: no tenant and no scope."""


def sign(caller: Caller, audience: str, secret: SecretStr) -> str:
    """A token for one service (`audience`); for some seconds the same, as making one takes longer than using it."""
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
    """The caller a token speaks for; raises ProblemError 401 when it is not the gateway's or has expired."""
    caller, expires = _read(token, audience, tuple(secrets))
    if expires <= time.time():
        raise _not_the_gateway()
    return caller


@lru_cache(1000)
def _read(token: str, audience: str, secrets: tuple[SecretStr, ...]) -> tuple[Caller, int]:
    """The caller and when the token expires; what is refused is not remembered."""
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
        name = claims.get("name", "")  # a gateway of before does not say it
        return Caller(claims["tenant"], frozenset(claims["scopes"]), claims["key"], name), int(claims["exp"])
    raise _not_the_gateway()


def _not_the_gateway() -> ProblemError:
    return ProblemError(401, "not-the-gateway", "Services answer only the gateway; call the gateway instead.")


async def current(request: Request) -> Caller:
    """FastAPI dependency: the caller, who has an API key. Raises ProblemError 401 or 403.

    The application's state holds `name` (the audience) and `token_secrets`.
    """
    caller = await current_or_public(request)
    if not caller.tenant:
        raise ProblemError(403, "key-required", "Only a caller with an API key may do this.")
    return caller


async def current_or_public(request: Request) -> Caller:
    """FastAPI dependency of a public route: the caller, or PUBLIC. Raises ProblemError 401 on another token.

    A public caller has no tenant: the route finds it itself, by a segment of its path, say, and says what may be done.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        token = ""
    return verify(token, request.app.state.name, request.app.state.token_secrets)


def allowed(scope: str) -> Callable[[Caller], Awaitable[Caller]]:
    """A dependency that gives the caller if its key has the scope: `Depends(allowed("feedback:read"))`."""

    async def check(caller: Annotated[Caller, Depends(current)]) -> Caller:
        caller.require(scope)
        return caller

    return check
