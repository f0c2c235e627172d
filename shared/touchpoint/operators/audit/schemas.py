"""What the route on the audit takes and answers."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from pydantic import Field

from touchpoint.http.pagination import Bound, encode
from touchpoint.operators.schemas import Consumer, Listed, PageQuery


class AuditQuery(PageQuery):
    """Which lines of the trail to list."""

    consumer: Consumer | None = None
    since: Bound | None = Field(None, description="of this time or later")


class AuditLine(Listed):
    """What an operator did, or a worker for one."""

    at: datetime
    who: str = Field(examples=["key:3f9c02ab71de (night shift)", "ann@bastion"])
    action: str = Field(examples=["replay.run"])
    subject: str = Field(description="the consumer it was done to")
    reason: str | None
    plan_id: UUID | None
    plan_hash: str | None
    matched: int | None
    applied: int | None
    already_applied: int | None
    failed: int | None
    erased: int | None
    details: Mapping[str, Any]

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """A line as the trail has it."""
        return cls(cursor=encode(row["at"], row["place"]), **row)
