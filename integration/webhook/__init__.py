"""How work enters: a thin endpoint that verifies, stores and answers."""
