"""A sample, as the gateway checks it."""

from datetime import UTC, datetime

from gateway.ingest import cloudevents, decisions
from touchpoint.sample import world
from touchpoint.sample.dates import DAY
from touchpoint.sample.schedule import Frame, encode

START = 1_735_516_800


def test_the_gateway_takes_every_event_of_a_sample():
    now = datetime.now(UTC)
    events = list(world.events(Frame(customers=30, days=365, seed=21, start=START), START + 365 * DAY))
    for event in events:
        backfill = event.time < START + 300 * DAY
        meta, _ = decisions.accept(cloudevents.structured(encode(event, backfill=backfill)), "acme", now)
        assert (meta.id, meta.backfill, meta.time.timestamp()) == (event.id, backfill, event.time)
    assert len(events) > 1000
