"""A trace collector for tests: receives OTLP over HTTP, as OpenTelemetry's collector does, and keeps all spans."""

import asyncio
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from touchpoint.http.server import listen, serve


class Span(NamedTuple):
    """An exported span; ids are hexadecimal, `parent` is "" if there is none."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    links: list[str]
    """Ids of the traces that the span is linked with."""


class Collector:
    """A running collector; `spans` are those it has received."""

    def __init__(self) -> None:
        self.spans = list[Span]()
        listening, self._stop = listen("127.0.0.1", 0), asyncio.Event()
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        app = Starlette(routes=[Route("/v1/traces", self._take, methods=["POST"])])
        self._serving = asyncio.create_task(serve(app, listening, 100, self._stop))

    async def close(self) -> None:
        """Stop listening."""
        self._stop.set()
        await self._serving

    def trace(self, trace: str) -> list[Span]:
        """The spans of one trace."""
        return [span for span in self.spans if span.trace == trace]

    async def _take(self, request: Request) -> Response:
        for resource in ExportTraceServiceRequest.FromString(await request.body()).resource_spans:
            service = _attributes(resource.resource.attributes)["service.name"]
            self.spans += [_span(service, span) for scope in resource.scope_spans for span in scope.spans]
        return Response(media_type="application/x-protobuf")


def _span(service: str, span: Any) -> Span:
    return Span(
        service,
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        _attributes(span.attributes),
        [link.trace_id.hex() for link in span.links],
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
