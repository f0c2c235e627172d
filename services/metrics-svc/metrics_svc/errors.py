"""Questions that are understood and still cannot be answered as asked."""

from metrics_svc.measures import MOST_ITEMS
from touchpoint.http.errors import FieldError, ProblemError


def too_many_items() -> ProblemError:
    """More periods times groups than one answer holds."""
    reason = f"take a longer interval, a shorter range or fewer groups: periods × groups may be {MOST_ITEMS} at most"
    detail = f"The answer would have more than {MOST_ITEMS} items."
    return ProblemError(422, "too-many-items", detail, errors=[FieldError(field="interval", reason=reason)])


def zone_off_the_hour(zone: str) -> ProblemError:
    """A time zone whose days do not begin on a full hour of UTC."""
    reason = f"{zone} is not a whole number of hours from UTC in this range: ask in UTC"
    detail = "Metrics are kept by hour of UTC; periods have to begin with one."
    return ProblemError(422, "zone-off-the-hour", detail, errors=[FieldError(field="timezone", reason=reason)])
