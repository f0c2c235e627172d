"""The overlays' objects as a cluster would get them."""

import pytest

from tests.deploy.kubernetes.cluster import Cluster, build


@pytest.fixture(params=["dev", "prod"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """All objects of one overlay."""
    return Cluster(build(f"overlays/{request.param}"))
