from django.apps import AppConfig


class RelayConfig(AppConfig):
    name = "relay"

    def ready(self) -> None:
        """What accounts calls without knowing the relay: usage counters, and word to smtpd of a change."""
        from accounts import organizations, plans
        from relay import credentials

        plans.usage_counters["smtp_users"] = credentials.smtp_users_of
        organizations.on_state_change.append(credentials.organization_changed)
