"""Input that the gateway refuses although the published schemas allow it: rules that JSON Schema cannot express."""

import re
from typing import Any

_REASONS = re.compile(
    "|".join(
        (
            # Rules between fields.
            "needs score|needs text or score|is off its scale|must be greater than score.min|score.min and score.max",
            "must be whole numbers|the scale of|needs currency|must be 0 when change is churned",
            "must not be before|must be after|send either data or data_base64|must be urn:touchpoint:",
            # Decimals: validators compute `multipleOf` in doubles. Times: no keyword bounds them; leap seconds exist.
            "digits after the point|at most [0-9]+ digits$|the year must lie|5 minutes ahead|number out of range",
            "as in RFC 3339|not a day of the calendar|second 60 exists",
            # Whole numbers with a decimal point, such as 1.0. An unreadable value of a member that appears twice.
            "a boolean or a whole number|must be a whole number|half of a surrogate pair|invalid unicode code point",
            "recursion limit",
            # The format of some attributes.
            r"must not contain U\+(?!00[01]|007F)|URI reference|must not be . or ..: HTTP",
            "traceparent|must be application/json|is required:",
            "not an attribute's name|this is not Base64|needs data|application/cloudevents|20 extension",
            # What OpenAPI 3.0 cannot express: forbidden attributes, and bounds of attributes it does not list.
            "comes from the API key: |stamps it: |encrypted data: |an extension has at most",
            # Time zones, and ranges with too many periods for a response.
            "time zone of the IANA|whole number of quarters|quarter of an hour|periods",
            # Query parameters checked by code: consumers, times and offsets in one text.
            "not a time: write|two times for one end|the log ends at|does not read|does not handle|"
            "is required if execute",
        )
    )
)


def schemas(problem: dict[str, Any]) -> bool:
    """Whether every reason in a problem is a rule that no schema expresses; of a batch, in all its items' problems."""
    if refused := problem.get("refused"):
        return all(schemas(item["problem"]) for item in refused)
    reasons = [error["reason"] for error in problem.get("errors") or ()] or [problem["detail"]]
    return all(map(_REASONS.search, reasons))
