"""Learning systems: they send what happened."""
