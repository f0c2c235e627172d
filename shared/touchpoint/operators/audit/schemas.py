"""Request and response schemas of the audit route."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from pydantic import Field

from touchpoint.http.pagination import Bound, encode
from touchpoint.operators.schemas import Consumer, Listed, PageQuery


class AuditQuery(PageQuery):
    """Which lines of the audit trail to list."""

    consumer: Consumer | None = None
    since: Bound | None = Field(None, description="only actions at this time or later")


class AuditLine(Listed):
    """One action of an operator, or of a worker on an operator's behalf."""

    at: datetime
    who: str = Field(examples=["key:3f9c02ab71de (night shift)", "ann@bastion"])
    action: str = Field(examples=["replay.run"])
    subject: str = Field(description="the consumer that was acted on")
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
        """The line for a row of the audit table."""
        return cls(cursor=encode(row["at"], row["place"]), **row)
