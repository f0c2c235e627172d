"""The recurring tasks of escalation-svc, by the role that runs them."""

from escalation_svc.cases import tasks as cases
from touchpoint.process.service import Tasks

TASKS: Tasks = {"worker": [cases.timer, cases.open_cases]}
