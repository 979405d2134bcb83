"""A SQLite file: one writer in each process, readers beside it."""
