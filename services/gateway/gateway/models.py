"""The tables of the gateway, as its rooms declare them."""

from sqlalchemy.orm import DeclarativeBase

from gateway.idempotency import models as idempotency
from gateway.keys import models as keys


class Base(DeclarativeBase):
    """All of them in one place."""


for _room in (keys, idempotency):
    for _table in _room.Base.metadata.sorted_tables:
        _table.to_metadata(Base.metadata)
