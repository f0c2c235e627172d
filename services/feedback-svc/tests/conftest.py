import pytest


@pytest.fixture(scope="session")
def package() -> str:
    """Package of the service whose database, sessions and API clients the shared fixtures provide."""
    return "feedback_svc"
