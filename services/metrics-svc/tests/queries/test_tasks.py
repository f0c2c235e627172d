"""The scores that are exported as gauges: of one tenant, over the last 30 days, for each scale."""

from datetime import timedelta

from metrics_svc.counting.handlers import handlers
from metrics_svc.queries import tasks
from touchpoint.db.engine import create_engine
from touchpoint.db.tenants import Tenants
from touchpoint.testing import apply
from touchpoint.testing.factories import NOON, feedback


async def test_scores_of_the_last_30_days_are_measured_by_scale(dsn, sessions):
    long_ago = NOON - timedelta(days=40)
    await apply(
        handlers,
        sessions,
        [
            feedback(score=10),
            feedback(score=3, time=long_ago),
            feedback(score=1, tenant="globex"),
            feedback(kind="csat", score=5),
            feedback(kind="csat", score={"value": 1, "min": 1, "max": 7}),
        ],
    )
    engine = create_engine(dsn, "tests")
    result = await tasks.measure(Tenants(engine), "acme", NOON)
    await engine.dispose()
    assert sorted(result) == [
        ("csat", "acme", "1-5", 1.0),
        ("csat", "acme", "1-7", 0.0),
        ("nps", "acme", "0-10", 100.0),
    ]
