"""Everything that starts: the Celery app, its thin tasks, the `coursewire` command. The composition root."""
