"""Every test of the workspace can use the fixtures that ship with touchpoint."""

from hypothesis import settings

pytest_plugins = ["touchpoint.testing.fixtures"]

settings.register_profile("untimed", deadline=None)  # how long a test takes says how busy the machine is
settings.load_profile("untimed")
