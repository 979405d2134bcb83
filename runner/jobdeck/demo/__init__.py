"""The demo: a team, a worker and a real data sync from a small local API into a SQL table."""
