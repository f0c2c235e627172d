"""`python -m metrics_svc api|consumer|worker|migrate|all`."""

import touchpoint.process.sigterm  # noqa: F401  # isort: skip (before imports that take a second)

from metrics_svc.app import create_app
from metrics_svc.config import NAME, Settings
from metrics_svc.counting.handlers import handlers
from metrics_svc.tasks import TASKS
from metrics_svc.verify import subject
from touchpoint.process.service import Service, main

main(Service(NAME, "metrics_svc", Settings, create_app, handlers, projections=subject(), tasks=TASKS))
