"""The OpenAPI documents, and a page to read them. The page loads nothing from other sites."""

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, request_response
from starlette.staticfiles import StaticFiles

from gateway.door.service import Compact

NOSNIFF = {"X-Content-Type-Options": "nosniff"}
PAGE = NOSNIFF | {
    # Swagger UI sets styles and draws its pictures from data: URLs.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


def routes() -> list[BaseRoute]:
    """The routes that need no key, because they hold no data."""
    page = files("gateway").joinpath("docs", "index.html").read_bytes()

    async def docs(_: object) -> Response:
        return Response(page, media_type="text/html", headers=PAGE)

    assets = StaticFiles(packages=[("gateway", "docs"), ("fastapi_offline", "static")])
    return [_document("/openapi.json", "openapi.json"), Route("/docs", docs), Mount("/docs", assets)]


def operations() -> Route:
    """The OpenAPI document of the operators' routes, for the admin address."""
    return _document("/v1/ops/openapi.json", "openapi_operations.json")


def _document(path: str, name: str) -> Route:
    document = files("gateway").joinpath(name).read_bytes()

    async def openapi(_: Request) -> Response:
        return Response(document, media_type="application/json", headers=NOSNIFF)

    return Route(path, Compact(request_response(openapi), etag=True), methods=["GET"])
