from django.apps import AppConfig


class WebhooksConfig(AppConfig):
    """An app of its own, so that its tables have migrations of their own."""

    name = "relay.webhooks"
    label = "webhooks"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """What settles recipients and what opens alerts does not know who listens."""
        from audit.anomalies import hooks
        from relay import after_settle
        from relay.webhooks import outbox

        after_settle.hooks.append(outbox.on_settled)
        hooks.on_anomaly.append(outbox.on_anomaly)
