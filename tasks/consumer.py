"""Celery's consumer without delayed delivery, which makes 28 queues at RabbitMQ: our retries wait in rows."""

from celery.worker import consumer

DELAYED_DELIVERY = "celery.worker.consumer.delayed_delivery:DelayedDelivery"


class Consumer(consumer.Consumer):
    """What takes messages off the broker in a worker."""

    class Blueprint(consumer.Consumer.Blueprint):  # type: ignore[valid-type,misc]  # the stubs call it a variable
        """The steps it is made of."""

        default_steps = tuple(step for step in consumer.Consumer.Blueprint.default_steps if step != DELAYED_DELIVERY)
