from django.apps import AppConfig


class OAuthConfig(AppConfig):
    """An app of its own: django-oauth-toolkit's migrations need its replaced tables to be there from the first one."""

    name = "relay.oauth"
    label = "oauth"
    default_auto_field = "django.db.models.BigAutoField"
