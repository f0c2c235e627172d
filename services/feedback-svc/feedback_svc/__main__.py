"""`python -m feedback_svc api | consumer | worker | migrate | all`."""

from feedback_svc.app import NAME, create_app
from feedback_svc.config import Settings
from feedback_svc.handlers import handlers
from touchpoint.service import Service, main

main(Service(name=NAME, package="feedback_svc", settings=Settings, create_app=create_app, handlers=handlers))
