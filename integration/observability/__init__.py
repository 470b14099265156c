"""How it is seen: logs, metrics, health. Ids only, nothing personal."""
