"""A service's routes for operators, on its own consumer and database: the functions of the CLI commands over HTTP.

Operators see the rows of all tenants. Only these routes therefore get sessions of the tables' owner, which bypass
row-level security, and they require an operators' scope (`ops:read`, `ops:replay`).
"""

from fastapi import APIRouter

from touchpoint.operators.audit import api as audit
from touchpoint.operators.consumers import api as consumers
from touchpoint.operators.dead_letters import api as dead_letters
from touchpoint.operators.replays import api as replays
from touchpoint.operators.replays import rebuilds

router = APIRouter(prefix="/v1/ops")
for part in (consumers, dead_letters, replays, rebuilds, audit):
    router.include_router(part.router)
