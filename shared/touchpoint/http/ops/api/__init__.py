"""The operators' routes of a service: about its consumer, on its database, as the commands have them.

Their callers see all tenants. So they alone get sessions of the tables' owner, and only with a scope of operators.
"""

from fastapi import APIRouter

from touchpoint.http.ops.api import audit, consumers, dead_letters, rebuilds, replays

router = APIRouter(prefix="/v1/ops")
for part in (consumers, dead_letters, replays, rebuilds, audit):
    router.include_router(part.router)
