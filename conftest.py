"""Every test of the workspace can use the fixtures that ship with touchpoint."""

pytest_plugins = ["touchpoint.testing.fixtures"]
