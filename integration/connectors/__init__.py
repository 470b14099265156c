"""The outside systems: one file per system, one line each in `registry`."""
