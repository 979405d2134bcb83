"""Saved jobs: definitions, versions, schedules, and what starts after what."""
