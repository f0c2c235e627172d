"""`python -m gateway api | migrate | all`."""

import touchpoint.process.sigterm  # noqa: F401  # isort: skip (before imports that take a second)

from gateway.app import NAME, create_app
from gateway.config import Settings
from touchpoint.process.service import Service, main

main(Service(name=NAME, package="gateway", settings=Settings, create_app=create_app))
