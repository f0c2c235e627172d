"""Replace pydantic's error messages by one sentence that states what would be valid.

Clients send JSON or a query and need not know pydantic, so none of pydantic's own messages reaches them.
"""

from collections.abc import Mapping
from typing import Any

PATTERNS = dict[str, str]()
"""By regular expression: the reason given to a client whose text does not match it."""


def described(pattern: str, reason: str) -> str:
    """Register the reason for texts that do not match the pattern; returns the pattern."""
    PATTERNS[pattern] = reason
    return pattern


_OBJECT, _LIST, _TEXT, _TRUTH = "must be an object", "must be a list", "must be a string", "must be true or false"
_DATE, _UUID = "must be a date such as 2026-11-22", "must be a UUID such as 8e03978e-40d5-43e8-bc93-6894a57f9324"
_TIME = "must be a time with an offset from UTC, such as 2026-11-22T09:30:00Z"
_WHOLE, _NUMBER = "must be a whole number", "must be a number"

REASONS: Mapping[str, str] = {
    "missing": "is required",
    "extra_forbidden": "is not known here: correct the name or leave it out",
    "json_invalid": "is not JSON: {error}",
    "json_type": "must be JSON",
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "dataclass_type": _OBJECT,
    "dict_type": _OBJECT,
    "mapping_type": _OBJECT,
    "list_type": _LIST,
    "tuple_type": _LIST,
    "set_type": _LIST,
    "frozen_set_type": _LIST,
    "iterable_type": _LIST,
    "recursion_loop": "refers to itself",
    "recursion_depth_exceeded": "is nested too deeply",
    "none_required": "must be null",
    "string_type": _TEXT,
    "string_sub_type": _TEXT,
    "string_unicode": "must be a string in UTF-8",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_not_ascii": "must have ASCII characters only",
    "too_short": "must have at least {min_length} items, not {actual_length}",
    "too_long": "must have at most {max_length} items, not {actual_length}",
    "bool_type": _TRUTH,
    "bool_parsing": _TRUTH,
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": "must be a whole number with fewer digits",
    "int_from_float": "must be a whole number, without a fraction",
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "must be a finite number",
    "multiple_of": "must be a multiple of {multiple_of}",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be {le} or less",
    "decimal_type": _NUMBER,
    "decimal_parsing": _NUMBER,
    "decimal_max_digits": "must have at most {max_digits} digits",
    "decimal_max_places": "must have at most {decimal_places} digits after the point",
    "decimal_whole_digits": "must have at most {whole_digits} digits before the point",
    "enum": "must be one of: {expected}",
    "literal_error": "must be one of: {expected}",
    "union_tag_invalid": "must have one of these in {discriminator}: {expected_tags}",
    "union_tag_not_found": "must have the field {discriminator}, which selects its kind",
    "date_type": _DATE,
    "date_parsing": _DATE,
    "date_from_datetime_parsing": _DATE,
    "date_from_datetime_inexact": "must be a date without a time, such as 2026-11-22",
    "datetime_type": _TIME,
    "datetime_parsing": _TIME,
    "datetime_object_invalid": _TIME,
    "datetime_from_date_parsing": _TIME,
    "timezone_aware": "must have an offset from UTC, such as 2026-11-22T09:30:00Z",
    "timezone_naive": "must have no offset from UTC",
    "uuid_type": _UUID,
    "uuid_parsing": _UUID,
    "uuid_version": _UUID,
    "url_type": "must be a URL",
    "url_parsing": "must be a URL: {error}",
    "url_scheme": "must be a URL that begins with {expected_schemes}",
    "url_too_long": "must be a URL of at most {max_length} characters",
}
"""The sentences by pydantic's error type; a name in braces is a value of the error's context."""


def reason(error: Mapping[str, Any]) -> str:
    """The sentence for an item of pydantic's `ValidationError.errors()`."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "string_pattern_mismatch":
        pattern = context["pattern"]
        return PATTERNS.get(pattern, f"must match {pattern}")
    if kind in ("string_too_short", "too_short") and context["min_length"] == 1:
        return "must not be empty"
    if kind in ("value_error", "assertion_error"):
        return str(context["error"])
    if (template := REASONS.get(kind)) is not None:
        return template.format_map(context)
    if context.keys() == {"reason"}:  # raised by `refusal`, which has a sentence of its own
        return str(context["reason"])
    return f"is not valid here ({kind.replace('_', ' ')})"
