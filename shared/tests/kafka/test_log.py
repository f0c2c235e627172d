"""Reading the log without a consumer group."""

import pytest

from touchpoint.base.errors import UsageError
from touchpoint.kafka.log import group_less


async def test_an_error_right_after_connecting_is_not_hidden_by_the_disconnect(kafka):
    with pytest.raises(UsageError, match="the window ends before it begins"):
        async with group_less(kafka):
            raise UsageError("the window ends before it begins")
