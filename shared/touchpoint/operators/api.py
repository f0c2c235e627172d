"""The operators' routes of a service: about its consumer, on its database, as the commands have them.

Their callers see all tenants. So they alone get sessions of the tables' owner, and only with a scope of operators.
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
