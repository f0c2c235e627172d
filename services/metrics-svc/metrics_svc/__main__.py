"""`python -m metrics_svc api|consumer|worker|migrate|all`."""

from touchpoint.service import Service, main

from metrics_svc.app import NAME, create_app
from metrics_svc.config import Settings
from metrics_svc.handlers import handlers

main(Service(NAME, "metrics_svc", Settings, create_app, handlers))
