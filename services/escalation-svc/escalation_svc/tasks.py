"""What the rooms have repeated, by the role that does it."""

from escalation_svc.cases import tasks as cases
from touchpoint.process.service import Tasks

TASKS: Tasks = {"worker": [cases.timer, cases.open_cases]}
