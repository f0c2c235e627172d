"""What APIs see of the plumbing, since `tenants_v1`. Frozen: a change is a new module, `tenants_v3`."""

from types import ModuleType

_PLACES = {
    "offsets": "inbox_from",
    "inbox": 'topic, partition, "offset"',
    "dead_letters": 'topic, partition, "offset"',
}
"""Where an event lies: another consumer that has passed that place without it has missed it."""


def allow_places(op: ModuleType, role: str) -> None:
    """Let the role find out where an event lies. `op` is `alembic.op`."""
    for table, columns in _PLACES.items():
        op.execute(f"GRANT SELECT ({columns}) ON {table} TO {role}")
