"""The one way a message goes on the broker."""

from collections.abc import Sequence

from celery import Celery


def publish(app: Celery, name: str, arguments: Sequence[object]) -> None:
    """Publish one task by name, so that no publisher needs to know the tasks; raises what the broker raises.

    `arguments` are ids and codes. Flower shows them as they are: by default Celery shortens them, which for a hundred
    ids takes as long as all the rest of publishing.
    """
    app.send_task(name, args=arguments, argsrepr=repr(arguments), kwargsrepr="{}", ignore_result=True)
