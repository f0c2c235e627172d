"""What the rooms have repeated, by the role that does it."""

from metrics_svc.queries import tasks as queries
from touchpoint.process.service import Tasks

TASKS: Tasks = {"worker": [queries.scores]}
