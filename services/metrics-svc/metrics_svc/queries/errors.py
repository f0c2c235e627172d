"""Questions that are understood and still cannot be answered as asked."""

from metrics_svc.queries.schemas import MOST_ITEMS
from touchpoint.http.errors import FieldError, ProblemError


def too_many_items() -> ProblemError:
    """More periods times groups than one answer holds."""
    reason = f"take a longer interval, a shorter range or fewer groups: periods × groups may be {MOST_ITEMS} at most"
    detail = f"The answer would have more than {MOST_ITEMS} items."
    return ProblemError(422, "too-many-items", detail, errors=[FieldError(field="interval", reason=reason)])


def zone_off_the_quarter(zone: str) -> ProblemError:
    """A time zone whose days did not begin with a quarter of an hour of UTC, as some before October 1979."""
    reason = f"{zone} was not a whole number of quarters of an hour from UTC in this range: ask in UTC"
    detail = "Metrics are kept by quarter of an hour of UTC; periods have to begin with one."
    return ProblemError(422, "zone-off-the-quarter", detail, errors=[FieldError(field="timezone", reason=reason)])
