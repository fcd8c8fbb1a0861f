from django.apps import AppConfig


class RelayConfig(AppConfig):
    name = "relay"

    def ready(self) -> None:
        """What the floors below call without knowing the relay: usage counters, word to smtpd, mail about alerts."""
        from accounts import organizations, plans
        from audit.anomalies import hooks
        from relay import alert_mail, credentials

        plans.usage_counters["smtp_users"] = credentials.smtp_users_of
        organizations.on_state_change.append(credentials.organization_changed)
        hooks.on_anomaly.append(alert_mail.on_anomaly)
