"""Checks the settings of the topics a process uses: at the start, and periodically."""

import asyncio
from collections.abc import Iterable, Sequence

from touchpoint.base import telemetry
from touchpoint.base.errors import UsageError
from touchpoint.base.settings import KafkaSettings
from touchpoint.kafka import admin
from touchpoint.kafka.requirements import Deviation, deviations

LOOK_SECONDS = 30.0
"""Seconds between two checks; a check takes two requests to Kafka."""
RETRY_SECONDS = 2.0
"""Seconds until the next check after one that failed."""
TIMEOUT_SECONDS = 10.0


class TopicWatch:
    """Checks the topics a process uses, and holds the reason why it may not work with them."""

    def __init__(self, settings: KafkaSettings, topics: Iterable[str]) -> None:
        self._settings = settings
        self._names = sorted({settings.topic_prefix + topic for topic in topics})
        self.looked = False
        self.stops: str | None = "the settings of the topics have not been checked yet"
        """Why no work may be done, in one line; None while no deviation stops work."""

    async def check(self) -> str | None:
        """Readiness check: why no work may be done, or None."""
        return self.stops

    async def look(self) -> float:
        """Check once; return the seconds until the next check. The last result is kept while Kafka is unreachable."""
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS), admin.connected(self._settings) as client:
                wrong = await deviations(client, self._settings, self._names)
        except (UsageError, TimeoutError) as error:
            telemetry.log().warning(telemetry.TOPICS_UNSEEN, error=str(error) or type(error).__name__)
            return RETRY_SECONDS
        self._report(wrong)
        self.looked = True
        self.stops = next((str(deviation) for deviation in wrong if deviation.stops), None)
        return LOOK_SECONDS

    def _report(self, wrong: Sequence[Deviation]) -> None:
        telemetry.TOPIC_DEVIATIONS.clear()
        for deviation in wrong:
            stops = "yes" if deviation.stops else "no"
            telemetry.TOPIC_DEVIATIONS.labels(deviation.topic, deviation.setting, stops).set(1)
            telemetry.log().warning(telemetry.TOPIC_CHANGED, deviation=str(deviation), stops=deviation.stops)
