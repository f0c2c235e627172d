"""Programs that tests of what is deployed need and Touchpoint does not: `.ci/tools` installs them."""

import os
import shutil

import pytest


def program(*names: str) -> str:
    """The path of the first of these that is installed. None is: the test is skipped, but fails in CI."""
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        reason = f"{names[0]} is not installed (Debian: .ci/tools)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return path
