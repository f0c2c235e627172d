"""Programs that only the tests of the deployment need: `.ci/tools` installs them."""

import os
import shutil

import pytest


def program(*names: str) -> str:
    """The path of the first of these programs that is installed. If none is, the test is skipped, or fails in CI."""
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        reason = f"{names[0]} is not installed (Debian: .ci/tools)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return path
