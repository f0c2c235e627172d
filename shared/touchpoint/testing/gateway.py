"""A fake of the gateway's `POST /v1/events` in the test's process: keeps all batches and gives configured answers."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Batch = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


def taken(batch: Batch, refused: dict[int, dict[str, Any]] | None = None) -> Answer:
    """The gateway's answer to a batch in which the items at these indexes have these problems."""
    refused = refused or {}
    items = [{"index": index, "id": event["id"], "source": event["source"]} for index, event in enumerate(batch)]
    body = {
        "accepted": [item for item in items if item["index"] not in refused],
        "refused": [item | {"problem": refused[item["index"]]} for item in items if item["index"] in refused],
    }
    return Answer(207 if 0 < len(refused) < len(batch) else 422 if refused else 202, body)


def busy(status: int = 503, retry_after: str = "1") -> Answer:
    """The answer of a gateway that cannot accept events at the moment."""
    problem = {"type": "urn:touchpoint:problem:unavailable", "title": "Unavailable", "status": status}
    return Answer(status, problem, {"Retry-After": retry_after})


@dataclass
class FakeGateway:
    """Gives `answers` first, one per request, then accepts everything. `batches` contains the received batches."""

    url: str = ""
    key: str = "tp_test"
    answers: list[Callable[[Batch], Answer]] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)

    @property
    def events(self) -> Batch:
        """All received events in order, including refused ones."""
        return [event for batch in self.batches for event in batch]

    def answer(self, authorization: str | None, raw: bytes) -> Answer:
        """Answer one request."""
        if authorization != f"Bearer {self.key}":
            return Answer(401, {"title": "Unauthorized", "status": 401, "detail": "This API key is not known."})
        batch: Batch = json.loads(raw)
        self.batches.append(batch)
        return self.answers.pop(0)(batch) if self.answers else taken(batch)

    @contextmanager
    def serving(self) -> Iterator["FakeGateway"]:
        """Listen on a free port until the end of the block."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                answer = fake.answer(self.headers["authorization"], raw)
                body = json.dumps(answer.body).encode()
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(body)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Log nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
