"""Handlers of the Acme company."""
