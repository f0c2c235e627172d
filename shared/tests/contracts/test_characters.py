"""Which characters ids and labels may contain, also when the fast path reads them."""

import json
import unicodedata

import pytest
from pydantic import ValidationError

from touchpoint.contracts import characters
from touchpoint.contracts.touchpoints import FeedbackSubmitted, TicketOpened
from touchpoint.testing import factories as make

REFUSED = {
    "C0": "\x1f", "DEL": "\x7f", "C1": "\x85", "line separator": "\u2028", "paragraph separator": "\u2029",
    "bidi override": "\u202e", "bidi isolate": "\u2066", "bidi mark": "\u200f", "zero width": "\u200b",
    "byte order mark": "\ufeff", "soft hyphen": "\u00ad", "noncharacter": "\ufffe", "far noncharacter": "\U0010ffff",
    "tag": "\U000e0041",
}  # fmt: skip


def body(**fields: object) -> bytes:
    data = {"kind": "text", "channel": "web", "text": "x", **fields}
    return json.dumps(data, ensure_ascii=False).encode()


@pytest.mark.parametrize("escaped", [False, True])
@pytest.mark.parametrize("character", REFUSED.values(), ids=REFUSED)
def test_an_id_with_an_invisible_character_is_refused_by_its_code_point(character, escaped):
    raw = body(customer_id=f"C-{character}1")
    if escaped:
        raw = json.dumps(json.loads(raw)).encode()
    with pytest.raises(ValidationError) as caught:
        FeedbackSubmitted.read(raw)
    [error] = caught.value.errors()
    assert error["loc"] == ("customer_id",)
    assert f"U+{ord(character):04X}" in error["msg"]


@pytest.mark.parametrize("character", [c for c in REFUSED.values() if c > "\x7f"])
def test_a_consumer_accepts_older_ids_that_the_gateway_refuses_today(character):
    assert FeedbackSubmitted.read_tolerantly(body(customer_id=f"C-{character}1")).customer_id == f"C-{character}1"


@pytest.mark.parametrize("character", [c for c in REFUSED.values() if c > "\x7f"])
def test_a_text_may_contain_characters_refused_in_ids(character):
    assert FeedbackSubmitted.read(body(text=f"a{character}b")).text == f"a{character}b"


def test_joiners_are_accepted_in_labels_but_not_in_ids():
    read = TicketOpened.read(make.ticket_opened(tags=["می\u200cخواهم", "👩\u200d💻"]).data())
    assert read.tags == ["می\u200cخواهم", "👩\u200d💻"]
    with pytest.raises(ValidationError):
        FeedbackSubmitted.read(body(customer_id="a\u200cb"))


def test_the_fast_search_finds_every_refused_character():
    slipped = [
        hex(code)
        for code in range(0x80, 0x110000)
        if not 0xD800 <= code < 0xE000
        and characters.IN_IDS.search(chr(code))
        and not characters.suspicious(chr(code).encode())
    ]
    assert slipped == []


def test_all_control_and_direction_characters_of_unicode_are_refused():
    kept = [
        hex(code)
        for code in range(0x110000)
        if (unicodedata.category(chr(code)) in ("Cc", "Zl", "Zp", "Cs") or code & 0xFFFE == 0xFFFE)
        or unicodedata.bidirectional(chr(code)) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
        if not characters.IN_IDS.search(chr(code))
    ]
    assert kept == []
