"""`python -m escalation_svc api | consumer | worker | migrate | all`."""

import sys
from functools import partial

from touchpoint.errors import UsageError
from touchpoint.service import Service, main

from escalation_svc import timer
from escalation_svc.app import NAME, create_app
from escalation_svc.config import PolicySettings, Settings
from escalation_svc.handlers import with_policies
from escalation_svc.policies import load

try:
    policies = load(PolicySettings().policies_path)
except UsageError as error:
    sys.exit(str(error))
handlers = with_policies(policies)
main(
    Service(
        name=NAME,
        package="escalation_svc",
        settings=Settings,
        create_app=partial(create_app, handlers),
        handlers=handlers,
        worker=[partial(timer.run, policies, NAME)],
    )
)
