"""Everything that speaks SQL. Verbs (writes) and reads are written once for SQLite and PostgreSQL."""
