"""What an event's source may be: a URI reference (RFC 3986, section 4.1), as CloudEvents asks.

Visible characters beyond ASCII are taken as well, as in an IRI (RFC 3987): some SDKs send a source such as /crm/%C3%84
in a header as it is, and by CloudEvents' HTTP binding a header is percent-decoded, which makes it /crm/Ä.
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
    """What is wrong with a source, and what would be right; None if nothing is."""
    if not 1 <= len(source) <= MAX_LENGTH:
        return f"must be a URI reference of 1–{MAX_LENGTH} characters, such as /crm/eu"
    if refused := characters.refused(source, characters.IN_IDS):
        return refused
    if found := _NEVER.search(source):
        written = quote(found[0])
        return (
            f"must be a URI reference: write U+{ord(found[0]):04X} as {written} (in a ce-source header, which is "
            f"percent-decoded, as %25{written[1:]}), or leave it out"
        )
    if not _REFERENCE.fullmatch(source):
        return "must be a URI reference (RFC 3986), such as /crm/eu or https://crm.example.com/eu; % is written %25"
    return None
