"""Validate the `source` of an event: a URI reference (RFC 3986, section 4.1), as CloudEvents requires.

Visible non-ASCII characters are accepted, too, as in an IRI (RFC 3987): some SDKs send a source such as /crm/%C3%84
unchanged in a header, which the HTTP binding of CloudEvents percent-decodes to /crm/Ä.
"""

import re
from urllib.parse import quote

from touchpoint.contracts import characters

MAX_LENGTH = 500

_PATH = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/\x80-\U0010ffff-]|%[0-9A-Fa-f]{2})"
_NAME = r"(?:[A-Za-z0-9._~!$&'()*+,;=\x80-\U0010ffff-]|%[0-9A-Fa-f]{2})"
_REFERENCE = re.compile(
    r"(?:[A-Za-z][A-Za-z0-9+.-]*:|(?![^/?#:]*:))"  # a scheme; without one, the first segment has no colon
    rf"(?://(?:(?:{_NAME}|:)*@)?(?:\[[0-9A-Fa-f:.]+\]|{_NAME}*)(?::[0-9]*)?(?=[/?#]|$))?"
    rf"{_PATH}*(?:\?(?:{_PATH}|\?)*)?(?:#(?:{_PATH}|\?)*)?"
)
_NEVER = re.compile(r"[\x00-\x20\x7f\"<>\\^`{|}\s]")


def wrong(source: str) -> str | None:
    """The reason why a source is invalid, with what would be valid; None if it is valid."""
    if not 1 <= len(source) <= MAX_LENGTH:
        return f"must be a URI reference of 1–{MAX_LENGTH} characters, such as /crm/eu"
    if refused := characters.refused(source, characters.IN_IDS):
        return refused
    if match := _NEVER.search(source):
        written = quote(match[0])
        return (
            f"must be a URI reference: write U+{ord(match[0]):04X} as {written} (in a ce-source header, which is "
            f"percent-decoded, as %25{written[1:]}), or leave it out"
        )
    if not _REFERENCE.fullmatch(source):
        return "must be a URI reference (RFC 3986), such as /crm/eu or https://crm.example.com/eu; % is written %25"
    return None
