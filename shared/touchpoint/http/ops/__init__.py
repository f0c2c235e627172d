"""What operators do by command, over HTTP: asked by the gateway of the service whose consumer it is about."""
