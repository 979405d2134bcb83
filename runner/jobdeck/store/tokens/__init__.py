"""Runs in the hands of whoever has their token: of pull queues, and parked."""
