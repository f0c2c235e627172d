"""Every event of Touchpoint, declared once, under the service that writes it."""
