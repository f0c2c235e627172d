"""A few days of six customers, so that a new stack has something to show.

`sample.jsonl` holds CloudEvents as they are sent, but for their time: an ISO 8601 duration before now. The ids are
fixed, so loading it again changes nothing.
"""

import json
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

import httpx
from pydantic import TypeAdapter

from touchpoint.base.errors import UsageError

_DURATION = TypeAdapter(timedelta)


def events(now: datetime) -> list[dict[str, Any]]:
    """The sample as if it ended now, oldest first."""
    lines = (files("touchpoint.local") / "sample.jsonl").read_text().splitlines()
    sample = [json.loads(line) for line in lines]
    return [event | {"time": (now + _DURATION.validate_python(event["time"])).isoformat()} for event in sample]


async def load(gateway: str, key: str) -> None:
    """Send the sample as one batch. Raises UsageError when the gateway does not take all of it."""
    async with httpx.AsyncClient(base_url=gateway, timeout=30) as client:
        answer = await client.post(
            "/v1/events",
            content=json.dumps(events(datetime.now(UTC))),
            headers={"Content-Type": "application/cloudevents-batch+json", "Authorization": f"Bearer {key}"},
        )
    if answer.status_code != httpx.codes.ACCEPTED:
        raise UsageError(f"The gateway did not take the sample: {answer.status_code} {answer.text[:500]}")
