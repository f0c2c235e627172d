import pytest


@pytest.fixture(scope="session")
def package() -> str:
    """The service that the shared fixtures are about: its database, sessions on it, clients of its API."""
    return "feedback_svc"
