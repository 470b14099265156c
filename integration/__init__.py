"""What happened, what to do, and the outside systems: everything that moves facts, and no policy."""
