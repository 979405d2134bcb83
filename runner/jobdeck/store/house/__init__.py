"""Keeping house: what ended runs leave behind, backups, and jobdeck's own jobs."""
