"""The questions, each of which `scripts/bench NAME` answers."""
