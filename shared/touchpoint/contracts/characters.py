"""Which characters ids and labels may contain: visible ones.

Ids that look alike must be equal, and an id must not change how the text around it is displayed. So the gateway refuses
control characters (C0, DEL, C1), line and paragraph separators, direction marks, zero-width characters and
noncharacters. It accepts characters that are unassigned in Unicode, as the set of these depends on the Unicode version.
"""

import re
import unicodedata
from typing import Any

from pydantic import ValidationInfo
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

TOLERANT: JsonDict = {"tolerant": True}
"""Validation context of consumers: the log may contain older events that the gateway would refuse today."""

_NONCHARACTERS = "\ufdd0-\ufdef" + "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
_CONTROLS = f"\x00-\x1f\x7f-\x9f\ud800-\udfff{_NONCHARACTERS}"
_UNSEEN = "\u00ad\u034f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
_JOINERS = "\u200c\u200d"
"""Zero-width joiners, which Persian, Hindi and many emoji need: allowed in labels, refused in ids."""

CONTROL = re.compile(f"[{_CONTROLS}]")
"""Characters that the CloudEvents type String excludes."""
IN_IDS = re.compile(f"[{_CONTROLS}{_UNSEEN}{_JOINERS}]")
"""Characters that are refused in ids."""
IN_LABELS = re.compile(f"[{_CONTROLS}{_UNSEEN}]")
"""Characters that are refused in labels."""

_SUSPICIOUS = re.compile(
    rb"\xc2[\x80-\x9f\xad]|\xcd\x8f|\xd8\x9c|\xe1\xa0\x8e|\xe2\x80[\x8b-\x8f\xa8-\xae]|\xe2\x81[\xa0-\xaf]"
    rb"|\xed[\xa0-\xbf]|\xef\xb7[\x90-\xaf]|\xef\xbb\xbf|\xef\xbf[\xb9-\xbf]|\xf3\xa0[\x80-\x81]"
    rb"|\xf0[\x80-\xbf]\xbf[\xbe\xbf]|\xf1[\x80-\xbf]\xbf[\xbe\xbf]|\xf2[\x80-\xbf]\xbf[\xbe\xbf]"
    rb"|\xf3[\x80-\xbf]\xbf[\xbe\xbf]|\xf4[\x80-\xbf]\xbf[\xbe\xbf]"
)
_HARMLESS = bytes(set(range(256)) - set(b"\xc2\xcd\xd8\xe1\xe2\xed\xef\xf0\xf1\xf2\xf3\xf4"))


def suspicious(raw: bytes) -> bool:
    """Whether this UTF-8 may contain a refused non-ASCII character: no false negatives, some false positives."""
    if raw.isascii() or not raw.translate(None, _HARMLESS):  # the latter avoids the search for most European texts
        return False
    return _SUSPICIOUS.search(raw) is not None


def refused(text: str, characters: re.Pattern[str]) -> str | None:
    """The reason to refuse this text, naming the first of `characters` in it; None if it contains none of them."""
    match = characters.search(text)
    if match is None:
        return None
    name = unicodedata.name(match[0], "")
    return (
        f"must not contain U+{ord(match[0]):04X}{name and f' ({name})'}, a control or invisible character: leave it out"
    )


def visible_id(value: Any, info: ValidationInfo) -> Any:
    """Validator of ids."""
    return _checked(value, info, IN_IDS)


def visible_label(value: Any, info: ValidationInfo) -> Any:
    """Validator of labels."""
    return _checked(value, info, IN_LABELS)


def _checked(value: Any, info: ValidationInfo, characters: re.Pattern[str]) -> Any:
    if isinstance(value, str) and info.context != TOLERANT and (reason := refused(value, characters)):
        raise PydanticCustomError("unseen_character", "{reason}", {"reason": reason})
    return value
