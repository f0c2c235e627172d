"""The operators' routes."""

from typing import Literal, NamedTuple

from touchpoint.http.scopes import Scope
from touchpoint.kafka.lookup import TIMEOUT_SECONDS
from touchpoint.operators.replays.api import PLAN_SECONDS

LONGEST_SECONDS = PLAN_SECONDS + 10.0
"""How long a plan may take; no operation takes longer."""
LOOK_SECONDS = TIMEOUT_SECONDS + 5.0
"""How long a lookup in the log may take."""


class Operation(NamedTuple):
    """An operators' route. Lists of all services are combined; else the first service that knows it answers.

    `path` is as in the services' own OpenAPI documents.
    """

    method: Literal["GET", "POST"]
    path: str
    is_list: bool = False
    seconds: float | None = None
    """How long a service may take. None: QUERY_SECONDS."""

    @property
    def scope(self) -> Scope:
        """The scope that a key needs."""
        return Scope.OPS_READ if self.method == "GET" else Scope.OPS_REPLAY


OPERATIONS = (
    Operation("GET", "/v1/ops/consumers", is_list=True),
    Operation("POST", "/v1/ops/consumers/{consumer}/pause"),
    Operation("POST", "/v1/ops/consumers/{consumer}/resume"),
    Operation("GET", "/v1/ops/dead-letters", is_list=True),
    Operation("GET", "/v1/ops/dead-letters/stats", is_list=True),
    Operation("POST", "/v1/ops/dead-letters/redrive"),
    Operation("POST", "/v1/ops/dead-letters/discard"),
    Operation("GET", "/v1/ops/dead-letters/{consumer}/{topic}/{partition}/{offset}", seconds=LOOK_SECONDS),
    Operation("GET", "/v1/ops/replays", is_list=True),
    Operation("POST", "/v1/ops/replays", seconds=LONGEST_SECONDS),
    Operation("POST", "/v1/ops/rebuilds", seconds=LOOK_SECONDS),
    Operation("GET", "/v1/ops/replays/{replay_id}"),
    Operation("POST", "/v1/ops/replays/{replay_id}/run"),
    Operation("POST", "/v1/ops/replays/{replay_id}/pause"),
    Operation("POST", "/v1/ops/replays/{replay_id}/resume"),
    Operation("POST", "/v1/ops/replays/{replay_id}/swap"),
    Operation("POST", "/v1/ops/replays/{replay_id}/abort"),
    Operation("GET", "/v1/ops/audit", is_list=True),
)
