"""The audit: what people did, sealed so that a change shows."""
