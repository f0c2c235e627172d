"""`python -m escalation_svc api | consumer | worker | migrate | all`."""

import touchpoint.process.sigterm  # noqa: F401  # isort: skip (before imports that take a second)

import sys

from escalation_svc.app import create_app
from escalation_svc.config import NAME, Settings
from escalation_svc.tasks import TASKS
from escalation_svc.verify import subject
from touchpoint.base.errors import UsageError
from touchpoint.process.service import Service, main

try:
    projections = subject()
except UsageError as error:
    sys.exit(str(error))
main(Service(NAME, "escalation_svc", Settings, create_app, projections.handlers, projections=projections, tasks=TASKS))
