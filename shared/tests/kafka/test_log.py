"""Reading the log without a group."""

import pytest

from touchpoint.base.errors import UsageError
from touchpoint.kafka.log import group_less


async def test_what_goes_wrong_as_soon_as_it_is_connected_is_told_and_not_hidden_by_leaving(kafka):
    with pytest.raises(UsageError, match="the window ends before it begins"):
        async with group_less(kafka):
            raise UsageError("the window ends before it begins")
