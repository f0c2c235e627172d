"""`python -m gateway api | migrate | all`."""

from touchpoint.service import Service, main

from gateway.app import NAME, create_app
from gateway.config import Settings

main(Service(name=NAME, package="gateway", settings=Settings, create_app=create_app))
