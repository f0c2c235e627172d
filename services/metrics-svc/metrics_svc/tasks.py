"""The recurring tasks of metrics-svc, by the role that runs them."""

from metrics_svc.queries import tasks as queries
from touchpoint.process.service import Tasks

TASKS: Tasks = {"worker": [queries.scores]}
