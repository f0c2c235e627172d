"""Looks at the topics a process relies on: when it starts, and now and then while it runs."""

import asyncio
from collections.abc import Iterable, Sequence

from touchpoint.base import telemetry
from touchpoint.base.errors import UsageError
from touchpoint.base.settings import KafkaSettings
from touchpoint.kafka import admin
from touchpoint.kafka.requirements import Deviation, deviations

LOOK_SECONDS = 30.0
"""Between two looks, of two requests to Kafka."""
RETRY_SECONDS = 2.0
TIMEOUT_SECONDS = 10.0


class TopicWatch:
    """The topics a process relies on, and why it may not work with them."""

    def __init__(self, settings: KafkaSettings, topics: Iterable[str]) -> None:
        self._settings = settings
        self._names = sorted({settings.topic_prefix + topic for topic in topics})
        self.looked = False
        self.stops: str | None = "the topics have not been looked at yet"
        """Why no work may be done, in one line; None while all is as it must be."""

    async def check(self) -> str | None:
        """Readiness check."""
        return self.stops

    async def look(self) -> float:
        """Look once; returns the seconds to wait before the next look. What was seen last holds while Kafka is away."""
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS), admin.connected(self._settings) as client:
                found = await deviations(client, self._settings, self._names)
        except (UsageError, TimeoutError) as error:
            telemetry.log().warning(telemetry.TOPICS_UNSEEN, error=str(error) or type(error).__name__)
            return RETRY_SECONDS
        self._tell(found)
        self.looked = True
        self.stops = next((str(one) for one in found if one.stops), None)
        return LOOK_SECONDS

    def _tell(self, found: Sequence[Deviation]) -> None:
        telemetry.TOPIC_DEVIATIONS.clear()
        for one in found:
            telemetry.TOPIC_DEVIATIONS.labels(one.topic, one.setting, "yes" if one.stops else "no").set(1)
            telemetry.log().warning(telemetry.TOPIC_CHANGED, deviation=str(one), stops=one.stops)
