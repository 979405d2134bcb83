"""Runs as people look at them: lists, one by one, counted, and how they went."""
