"""Problems of queries that are valid but cannot be answered."""

from metrics_svc.queries.schemas import MOST_ITEMS
from touchpoint.http.errors import FieldError, ProblemError


def too_many_items() -> ProblemError:
    """The problem of a query with more periods × groups than an answer may have."""
    reason = f"take a longer interval, a shorter range or fewer groups: periods × groups may be {MOST_ITEMS} at most"
    detail = f"The answer would have more than {MOST_ITEMS} items."
    return ProblemError(422, "too-many-items", detail, errors=[FieldError(field="interval", reason=reason)])


def zone_off_the_quarter(zone: str) -> ProblemError:
    """The problem of a zone whose days began within a quarter of an hour of UTC, as some did before October 1979."""
    reason = f"{zone} was not a whole number of quarters of an hour from UTC in this range: ask in UTC"
    detail = "Metrics are kept by quarter of an hour of UTC; periods have to begin with one."
    return ProblemError(422, "zone-off-the-quarter", detail, errors=[FieldError(field="timezone", reason=reason)])
