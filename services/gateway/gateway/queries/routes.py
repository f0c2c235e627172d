"""Which routes go to which service: a line for each."""

from dataclasses import dataclass

from gateway.door.service import BODY_BYTES
from gateway.queries.service import ESCALATION, FEEDBACK, METRICS
from touchpoint.http.leaving import SAFE
from touchpoint.http.scopes import Scope

PUBLIC_BODY_BYTES = 16 * 1024
IDLE_SECONDS = 60.0
STREAMS_AT_ONCE = 8
PUBLIC_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class ServiceRoute:
    """A route of the gateway that a service answers.

    `path` is as in the service's own OpenAPI document. Either a key needs `scope`, or the route is `public`: it needs
    no key, and has limits for each client address (docs/adr/0022). GET answers HEAD too.
    """

    method: str
    path: str
    service: str
    scope: Scope | None = None
    public: bool = False
    streamed: bool = False
    """The answer is passed on part by part, neither collected nor packed: exports, server-sent events."""
    body_bytes: int | None = None
    """Limit of a request's body, unpacked. None: 256 KiB; public: 16 KiB."""
    seconds: float | None = None
    """The service's time for the whole answer; streamed: until its headers. None: QUERY_SECONDS."""
    idle_seconds: float = IDLE_SECONDS
    """Streamed: the service's time between two parts. Send a comment more often in a stream of events."""
    at_once: int | None = None
    """Requests at once in each gateway, in slots of the route's own; a tenant gets half.

    None: the service's slots, which all its routes share; streamed: 8, public: 16, both of the route's own.
    """

    def __post_init__(self) -> None:
        """Raise ValueError when it is not clear who may call it: a forgotten scope must not open a route."""
        if self.public == (self.scope is not None):
            raise ValueError(f"{self.method} {self.path}: name either a scope or public=True")

    @property
    def pattern(self) -> str:
        """The path as Starlette matches it: a customer's id may have slashes in it."""
        return self.path.replace("{customer_id}", "{customer_id:path}")

    @property
    def single(self) -> bool:
        """Whether its answer is a single resource, which the path names by its id."""
        return self.path.endswith("_id}")

    @property
    def safe(self) -> bool:
        """Whether the method changes nothing: its requests have no body and are not remembered."""
        return self.method in SAFE

    @property
    def largest_body(self) -> int:
        """Limit of a request's body in bytes."""
        return self.body_bytes or (PUBLIC_BODY_BYTES if self.public else BODY_BYTES)

    @property
    def own_slots(self) -> int | None:
        """How many slots of its own the route has; None: it shares the service's."""
        if self.at_once is not None:
            return self.at_once
        if self.public:
            return PUBLIC_AT_ONCE
        return STREAMS_AT_ONCE if self.streamed else None


ROUTES = (
    ServiceRoute("GET", "/v1/feedback", FEEDBACK, Scope.FEEDBACK_READ),
    ServiceRoute("GET", "/v1/feedback/{feedback_id}", FEEDBACK, Scope.FEEDBACK_READ),
    ServiceRoute("GET", "/v1/customers/{customer_id}/timeline", FEEDBACK, Scope.CUSTOMERS_READ),
    ServiceRoute("GET", "/v1/escalations", ESCALATION, Scope.ESCALATIONS_READ),
    ServiceRoute("GET", "/v1/escalations/{escalation_id}", ESCALATION, Scope.ESCALATIONS_READ),
    ServiceRoute("POST", "/v1/escalations/{escalation_id}/acknowledge", ESCALATION, Scope.ESCALATIONS_WRITE),
    ServiceRoute("POST", "/v1/escalations/{escalation_id}/resolve", ESCALATION, Scope.ESCALATIONS_WRITE),
    ServiceRoute("GET", "/v1/metrics/{metric}", METRICS, Scope.METRICS_READ),
)
