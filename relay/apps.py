from django.apps import AppConfig


class RelayConfig(AppConfig):
    name = "relay"

    def ready(self) -> None:
        """What the floors below call without knowing the relay: usage counters, retention, word to smtpd, mail."""
        from accounts import members, organizations, plans
        from accounts.billing import dunning, subscriptions
        from audit.anomalies import hooks
        from audit.retention import kept_days
        from relay import after_settle, alert_mail, credentials, domains
        from relay.bounces import hook as bounces
        from relay.retention import days_kept

        plans.usage_counters["smtp_users"] = credentials.smtp_users_of
        plans.usage_counters["app_passwords"] = credentials.app_passwords_of
        plans.usage_counters["members"] = members.members_of
        plans.usage_counters["domains"] = domains.domains_of
        organizations.on_state_change.append(credentials.organization_changed)
        organizations.on_state_change.append(subscriptions.begin_at_activation)
        organizations.on_state_change.append(dunning.forget_at_activation)
        kept_days[:] = [days_kept]
        hooks.on_anomaly.append(alert_mail.on_anomaly)
        after_settle.hooks.append(bounces.after_settle)
