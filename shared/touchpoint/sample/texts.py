"""What people write: `texts.json` holds sentences by language and occasion, and titles with first messages by topic."""

import json
from importlib.resources import files
from typing import Any

from touchpoint.sample.chance import Chance

TEXTS: dict[str, dict[str, Any]] = json.loads((files("touchpoint.sample") / "texts.json").read_text("utf-8"))
"""By language, then by occasion: a list of sentences; by topic of a ticket: a list of title and first message."""

_JOINED = {"ja": ""}
"""What stands between two sentences, if it is no space."""


def sentence(chance: Chance, language: str, occasion: str) -> str:
    """A sentence for an occasion."""
    text: str = chance.pick(TEXTS[language][occasion])
    return text


def remark(chance: Chance, language: str, occasion: str) -> str:
    """One or two different sentences for an occasion."""
    sentences: list[str] = TEXTS[language][occasion]
    first = chance.below(len(sentences))
    if chance.happens(60):
        return sentences[first]
    second = (first + 1 + chance.below(len(sentences) - 1)) % len(sentences)
    return sentences[first] + _JOINED.get(language, " ") + sentences[second]


def problem(chance: Chance, language: str, topic: str) -> tuple[str, str]:
    """Title and first message of a ticket."""
    title, message = chance.pick(TEXTS[language][topic])
    return title, message
