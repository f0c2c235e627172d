"""The route that starts a rebuild. A rebuild is a kind of replay: the routes on replays watch, stop and swap it."""

from fastapi import APIRouter, Response

from touchpoint.operators.deps import Kafka, Operator, Session
from touchpoint.operators.replays import schemas
from touchpoint.replay import plan

router = APIRouter(prefix="/rebuilds")


@router.post("", status_code=201)
async def rebuild(
    caller: Operator, session: Session, kafka: Kafka, body: schemas.Rebuild, response: Response
) -> schemas.ReplayRead:
    """Start a rebuild: the service's worker builds its tables from the whole log and compares them with the live ones.

    The live tables change only with `swap`. 409 if Kafka no longer has the beginning of the log, or if the service's
    tables also hold data that does not come from the log.
    """
    replay = await plan.rebuild(session, kafka, who=caller.who, **body.model_dump())
    response.headers["Location"] = f"/v1/ops/replays/{replay.id}"
    return schemas.ReplayRead.of(replay)
