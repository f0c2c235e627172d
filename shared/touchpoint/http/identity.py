"""Who is calling: the gateway signs a short-lived token for each request it passes on; services accept nothing else."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import jwt
from fastapi import Depends, Request
from pydantic import SecretStr

from touchpoint.http.errors import ProblemError

LIFETIME_SECONDS = 60
_ISSUER = "gateway"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever holds the API key: its tenant, its scopes and the key's public name."""

    tenant: str
    scopes: frozenset[str]
    key: str

    def require(self, scope: str) -> None:
        """Raise 403 unless the key has this scope."""
        if scope not in self.scopes:
            raise ProblemError(403, "missing-scope", f"This API key lacks the scope {scope}.")


def sign(caller: Caller, audience: str, secrets: Sequence[SecretStr]) -> str:
    """A token for one service (`audience`), signed with the current secret."""
    claims = {
        "iss": _ISSUER,
        "aud": audience,
        "exp": int(time.time()) + LIFETIME_SECONDS,
        "tenant": caller.tenant,
        "scopes": sorted(caller.scopes),
        "key": caller.key,
    }
    return jwt.encode(claims, secrets[0].get_secret_value(), algorithm="HS256")


def verify(token: str, audience: str, secrets: Sequence[SecretStr]) -> Caller:
    """The caller a token speaks for; raises ProblemError 401 when it is not the gateway's or has expired."""
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
        return Caller(claims["tenant"], frozenset(claims["scopes"]), claims["key"])
    raise ProblemError(401, "not-the-gateway", "Services answer only the gateway; call the gateway instead.")


async def current(request: Request) -> Caller:
    """FastAPI dependency. The application's state holds `name` (the audience) and `token_secrets`."""
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
