"""Hot routes, found by one look: FastAPI's own layers and dependencies take longer than all that is done there."""

from collections.abc import Awaitable, Callable
from typing import Any, get_args, get_type_hints

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from touchpoint.http import errors
from touchpoint.http.identity import current
from touchpoint.http.leaving import UntilClientLeaves
from touchpoint.http.parameters import lists, refuse_repeated
from touchpoint.http.timing import Timed

Endpoint = Callable[[Any, Any, Any], Awaitable[Response]]


class Straight(FastAPI):
    """An application, some of whose routes are answered before it looks at its others."""

    def __init__(self, **options: Any) -> None:
        super().__init__(openapi_url=None, redirect_slashes=False, **options)
        self._straight = dict[tuple[str, str], ASGIApp]()
        self._outermost: ASGIApp = self._answer

    def answer(self, method: str, path: str, app: ASGIApp) -> None:
        """Have requests for exactly this path answered by `app`, which raises nothing but bugs."""
        self._straight[method, path] = ServerErrorMiddleware(app, errors.on_bug)

    def answer_list(self, path: str, endpoint: Endpoint) -> None:
        """Have GET on exactly this path answered by the very endpoint that FastAPI has there, called by `_List`."""
        handlers = {kind: handler for kind, handler in self.exception_handlers.items() if kind is not Exception}
        self.answer("GET", path, Timed(UntilClientLeaves(ExceptionMiddleware(_List(self, endpoint), handlers)), path))

    def surround(self, middleware: Callable[..., ASGIApp], **options: Any) -> None:
        """Put a middleware around all routes, the straight ones as well: `add_middleware` would not reach those."""
        self._outermost = middleware(self._outermost, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as any ASGI application."""
        await self._outermost(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        straight = self._straight.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        await (straight or super().__call__)(scope, receive, send)


class _List:
    """Calls an endpoint with what its three parameters are annotated with for FastAPI.

    `caller: Annotated[Caller, Depends(allowed(scope))]`, `rows: Rows` and `query: Annotated[Model, Query()]`.
    """

    def __init__(self, app: FastAPI, endpoint: Endpoint) -> None:
        hints = get_type_hints(endpoint, include_extras=True)
        self._app = app
        self._allow = get_args(hints["caller"])[1].dependency
        self._query: type[BaseModel] = get_args(hints["query"])[0]
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request({**scope, "app": self._app})
        caller = await self._allow(await current(request))
        given = request.query_params
        refuse_repeated(given, (self._query,))
        several = {name: given.getlist(name) for name in lists(self._query) if name in given}
        try:
            query = self._query.model_validate(dict(given) | several)
        except ValidationError as error:
            raise RequestValidationError([e | {"loc": ("query", *e["loc"])} for e in error.errors()]) from None
        response = await self._endpoint(caller, self._app.state.tenants, query)
        await response(scope, receive, send)
