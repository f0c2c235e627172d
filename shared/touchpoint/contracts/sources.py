"""What an event's source may be: a URI reference (RFC 3986, section 4.1), as CloudEvents asks."""

import re
from urllib.parse import quote

MAX_LENGTH = 500

_PATH = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})"
_NAME = r"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})"
_REFERENCE = re.compile(
    r"(?:[A-Za-z][A-Za-z0-9+.-]*:|(?![^/?#:]*:))"  # a scheme; without one, the first segment has no colon
    rf"(?://(?:(?:{_NAME}|:)*@)?(?:\[[0-9A-Fa-f:.]+\]|{_NAME}*)(?::[0-9]*)?(?=[/?#]|$))?"
    rf"{_PATH}*(?:\?(?:{_PATH}|\?)*)?(?:#(?:{_PATH}|\?)*)?"
)
_NEVER = re.compile(r"[^A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]")


def wrong(source: str) -> str | None:
    """What is wrong with a source, and what would be right; None if nothing is."""
    if not 1 <= len(source) <= MAX_LENGTH:
        return f"must be a URI reference of 1–{MAX_LENGTH} characters, such as /crm/eu"
    if found := _NEVER.search(source):
        written = quote(found[0], errors="surrogatepass")
        return f"must be a URI reference: write U+{ord(found[0]):04X} as {written}, or leave it out"
    if not _REFERENCE.fullmatch(source):
        return "must be a URI reference (RFC 3986), such as /crm/eu or https://crm.example.com/eu; % is written %25"
    return None
