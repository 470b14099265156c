"""How work leaves: due people are projected, compared, written in batches, and settled record by record."""
