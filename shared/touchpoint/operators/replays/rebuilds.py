"""Rebuilds: begun here; they are watched, stopped and swapped as replays."""

from fastapi import APIRouter, Response

from touchpoint.operators.deps import Kafka, Operator, Session
from touchpoint.operators.replays import schemas
from touchpoint.replay import plan

router = APIRouter(prefix="/rebuilds")


@router.post("", status_code=201)
async def rebuild(
    caller: Operator, session: Session, kafka: Kafka, body: schemas.Rebuild, response: Response
) -> schemas.ReplayRead:
    """Let the service's worker make its tables anew from the whole log, and compare them with the live ones.

    Nothing live is changed before `swap`. 409 where the log has lost its beginning, or other things have part in them.
    """
    replay = await plan.rebuild(session, kafka, who=caller.who, **body.model_dump())
    response.headers["Location"] = f"/v1/ops/replays/{replay.id}"
    return schemas.ReplayRead.of(replay)
