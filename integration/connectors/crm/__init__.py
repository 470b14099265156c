"""Customer systems: they hold contacts."""
