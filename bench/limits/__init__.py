"""What the bare storage does: the same work with nothing around it. Ceilings of a design, not products."""
