"""A PostgreSQL server: two overlapping connections that write, others that read."""
