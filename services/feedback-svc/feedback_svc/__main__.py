"""`python -m feedback_svc api | consumer | worker | migrate | all`."""

import touchpoint.process.sigterm  # noqa: F401  # isort: skip (before imports that take a second)

from feedback_svc.app import create_app
from feedback_svc.config import NAME, Settings
from feedback_svc.handlers import handlers
from feedback_svc.verify import subject
from touchpoint.process.service import Service, main

main(Service(NAME, "feedback_svc", Settings, create_app, handlers, projections=subject()))
