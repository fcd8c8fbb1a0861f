"""Named routes in place of the organization's own one, holds by hand, and actions on many recipients."""

from pathlib import Path
from typing import Any

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

from relay.models.messages import NEVER
from relay.models.queue_actions import QueueAction
from relay.models.routes import NamedRoute

KINDS = {"sandbox": "Sandbox", "smarthost": "Smarthost", "hold": "Hold", "mx": "MX"}


def to_named_routes(apps: Any, _editor: Any) -> None:
    """What an organization had of its own was shared by nobody by name: equal ones become one."""
    route, choice = apps.get_model("relay", "NamedRoute"), apps.get_model("relay", "RouteChoice")
    file = Path(settings.GATEPOST_SMARTHOST_CA_FILE) if settings.GATEPOST_SMARTHOST_CA_FILE else None
    for own in apps.get_model("relay", "OrganizationRoute").objects.order_by("organization_id"):
        hosts = [[own.smarthost, own.smarthost_port or settings.GATEPOST_SMARTHOST_PORT]] if own.smarthost else []
        name = f"{own.smarthost}:{hosts[0][1]}"[-64:] if hosts else KINDS.get(own.route, own.route)
        values = {"kind": own.route, "hosts": hosts, "tls": settings.GATEPOST_SMARTHOST_TLS}
        if hosts and file and file.is_file():
            values["ca_pem"] = file.read_text()
        named, _made = route.objects.get_or_create(name=name, defaults=values)
        choice.objects.create(route=named, organization_id=own.organization_id)


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial"), ("relay", "0014_bounces")]
    operations = [
        migrations.CreateModel(
            name="NamedRoute",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=64, unique=True)),
                ("kind", models.CharField(choices=NamedRoute._meta.get_field("kind").choices, max_length=16)),
                ("hosts", models.JSONField(blank=True, default=list)),
                ("tls", models.CharField(choices=NamedRoute.Tls.choices, default="starttls", max_length=16)),
                ("ca_pem", models.TextField(blank=True)),
                ("username", models.CharField(blank=True, max_length=255)),
                ("password_sealed", models.TextField(blank=True)),
                ("source_ipv4", models.GenericIPAddressField(blank=True, null=True, protocol="IPv4")),
                ("source_ipv6", models.GenericIPAddressField(blank=True, null=True, protocol="IPv6")),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("changed_at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
        ),
        migrations.CreateModel(
            name="RouteChoice",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "domain",
                    models.OneToOneField(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="route_choice",
                        to="relay.sendingdomain",
                    ),
                ),
                (
                    "organization",
                    models.OneToOneField(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="route_choice",
                        to="accounts.organization",
                    ),
                ),
                (
                    "plan",
                    models.OneToOneField(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="route_choice",
                        to="accounts.plan",
                    ),
                ),
                (
                    "route",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="choices", to="relay.namedroute"
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(domain__isnull=False, organization__isnull=True, plan__isnull=True)
                        | models.Q(domain__isnull=True, organization__isnull=False, plan__isnull=True)
                        | models.Q(domain__isnull=True, organization__isnull=True, plan__isnull=False),
                        name="route_choice_of_one_thing",
                    )
                ]
            },
        ),
        migrations.RunPython(to_named_routes, migrations.RunPython.noop),
        migrations.DeleteModel(name="OrganizationRoute"),
        migrations.CreateModel(
            name="Hold",
            fields=[
                (
                    "recipient",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="hold",
                        serialize=False,
                        to="relay.recipient",
                    ),
                ),
                ("by_operator", models.BooleanField()),
                ("was_debited", models.BooleanField()),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
        ),
        migrations.CreateModel(
            name="QueueAction",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("verb", models.CharField(choices=QueueAction.Verb.choices, max_length=8)),
                ("filters", models.JSONField(default=dict)),
                ("as_of", models.DateTimeField(default=django.utils.timezone.now)),
                ("note", models.CharField(blank=True, max_length=255)),
                ("actor", models.CharField(max_length=320)),
                ("actor_id", models.BigIntegerField(null=True)),
                ("state", models.CharField(choices=QueueAction.State.choices, default="waiting", max_length=8)),
                ("total", models.BigIntegerField(null=True)),
                ("changed", models.BigIntegerField(default=0)),
                ("skipped", models.JSONField(default=dict)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("next_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("cursor", models.BigIntegerField(default=0)),
                ("passes", models.PositiveSmallIntegerField(default=0)),
                ("finished_at", models.DateTimeField(null=True)),
                (
                    "organization",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="queue_actions",
                        to="accounts.organization",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        fields=["next_at"],
                        name="queue_action_open",
                        condition=models.Q(finished_at__isnull=True),
                    )
                ]
            },
        ),
        migrations.CreateModel(
            name="QueueActionItem",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("recipient_id", models.BigIntegerField()),
                (
                    "action",
                    models.ForeignKey(
                        db_index=False, on_delete=django.db.models.deletion.CASCADE, to="relay.queueaction"
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=["action", "recipient_id"], name="queue_action_item_once")
                ]
            },
        ),
        migrations.CreateModel(
            name="QueueSummary",
            fields=[
                ("id", models.PositiveSmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("at", models.DateTimeField()),
                ("seconds", models.FloatField()),
                ("figures", models.JSONField()),
            ],
        ),
        # The release of what the limit holds looks here every two seconds: what is held by hand is none of its work.
        migrations.RemoveIndex(model_name="recipient", name="recipient_held"),
        migrations.AddIndex(
            model_name="recipient",
            index=models.Index(
                fields=["message"],
                name="recipient_held",
                condition=models.Q(state="held", due_at__lt=NEVER),
            ),
        ),
    ]
