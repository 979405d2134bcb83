"""One act on all runs that match a filter, step by step."""
