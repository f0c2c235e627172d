"""Which questions go to which service."""

from typing import NamedTuple

from gateway.queries.service import ESCALATION, FEEDBACK, METRICS
from touchpoint.http.scopes import Scope


class Query(NamedTuple):
    """A route of the door and the service behind it. `path` is as in the service's own OpenAPI document."""

    method: str
    path: str
    service: str
    scope: Scope

    @property
    def route(self) -> str:
        """The path as a route: a customer's id may have slashes in it."""
        return self.path.replace("{customer_id}", "{customer_id:path}")

    @property
    def single(self) -> bool:
        """Whether one thing is asked for by its id."""
        return self.path.endswith("_id}")


QUERIES = (
    Query("GET", "/v1/feedback", FEEDBACK, Scope.FEEDBACK_READ),
    Query("GET", "/v1/feedback/{feedback_id}", FEEDBACK, Scope.FEEDBACK_READ),
    Query("GET", "/v1/customers/{customer_id}/timeline", FEEDBACK, Scope.CUSTOMERS_READ),
    Query("GET", "/v1/escalations", ESCALATION, Scope.ESCALATIONS_READ),
    Query("GET", "/v1/escalations/{escalation_id}", ESCALATION, Scope.ESCALATIONS_READ),
    Query("POST", "/v1/escalations/{escalation_id}/acknowledge", ESCALATION, Scope.ESCALATIONS_WRITE),
    Query("POST", "/v1/escalations/{escalation_id}/resolve", ESCALATION, Scope.ESCALATIONS_WRITE),
    Query("GET", "/v1/metrics/{metric}", METRICS, Scope.METRICS_READ),
)
