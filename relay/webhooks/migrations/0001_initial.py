"""Endpoints, what is posted to them, and of which limits they were told."""

import uuid

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.db import migrations, models

from relay.webhooks.kinds import TEST, Event
from relay.webhooks.models import Delivery, Endpoint

NOW = django.utils.timezone.now


class Migration(migrations.Migration):
    initial = True
    dependencies = [
        ("accounts", "0002_accounts_plans"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]
    operations = [
        migrations.CreateModel(
            name="Endpoint",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("url", models.CharField(max_length=1000, verbose_name="Address")),
                ("description", models.CharField(blank=True, max_length=200, verbose_name="Description")),
                ("events", ArrayField(models.CharField(choices=Event.choices, max_length=16))),
                ("smtp_user_ids", ArrayField(models.BigIntegerField(), blank=True, default=list)),
                ("secret", models.BinaryField()),
                ("previous_secret", models.BinaryField(null=True)),
                ("previous_secret_until", models.DateTimeField(null=True)),
                ("created_at", models.DateTimeField(default=NOW)),
                ("enabled_at", models.DateTimeField(default=NOW)),
                ("disabled_at", models.DateTimeField(blank=True, null=True)),
                ("disabled_why", models.CharField(blank=True, choices=Endpoint.Why.choices, max_length=8)),
                ("deleted_at", models.DateTimeField(blank=True, null=True)),
                ("failures", models.IntegerField(default=0)),
                ("failing_since", models.DateTimeField(blank=True, null=True)),
                ("paused_until", models.DateTimeField(blank=True, null=True)),
                ("last_problem", models.CharField(blank=True, max_length=255)),
                ("last_success_at", models.DateTimeField(blank=True, null=True)),
                (
                    "created_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="webhook_endpoints",
                        to="accounts.organization",
                    ),
                ),
            ],
            options={"db_table": "webhook_endpoint"},
        ),
        migrations.CreateModel(
            name="LimitTold",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("organization_id", models.BigIntegerField()),
                ("smtp_user_id", models.BigIntegerField(default=0)),
                ("percent", models.SmallIntegerField()),
                ("told_at", models.DateTimeField()),
            ],
            options={
                "db_table": "webhook_limit_told",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("organization_id", "smtp_user_id", "percent"), name="webhook_limit_once"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Delivery",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("organization_id", models.BigIntegerField()),
                ("event_id", models.UUIDField(default=uuid.uuid4)),
                ("type", models.CharField(choices=[*Event.choices, (TEST, "Test")], max_length=16)),
                ("occurred_at", models.DateTimeField(default=NOW)),
                ("data", models.JSONField(default=dict)),
                ("created_at", models.DateTimeField(default=NOW)),
                ("state", models.CharField(choices=Delivery.State.choices, default="waiting", max_length=9)),
                ("due_at", models.DateTimeField(default=NOW)),
                ("attempts", models.IntegerField(default=0)),
                ("lease", models.UUIDField(null=True)),
                ("leased_until", models.DateTimeField(null=True)),
                ("settled_at", models.DateTimeField(null=True)),
                ("last_status", models.SmallIntegerField(null=True)),
                ("tries", models.JSONField(default=list)),
                (
                    "endpoint",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="deliveries",
                        to="webhooks.endpoint",
                    ),
                ),
            ],
            options={
                "db_table": "webhook_delivery",
                "constraints": [
                    models.UniqueConstraint(fields=("event_id", "endpoint"), name="webhook_delivery_event")
                ],
                "indexes": [
                    models.Index(
                        fields=["endpoint", "due_at"],
                        name="webhook_delivery_due",
                        condition=models.Q(lease__isnull=True, state="waiting"),
                    ),
                    models.Index(fields=["endpoint", "-id"], name="webhook_delivery_log"),
                    models.Index(
                        fields=["endpoint", "-id"],
                        name="webhook_delivery_failed",
                        condition=models.Q(state="failed"),
                    ),
                    models.Index(
                        fields=["leased_until"],
                        name="webhook_delivery_leased",
                        condition=models.Q(lease__isnull=False),
                    ),
                    BrinIndex(fields=["created_at"], name="webhook_delivery_created", autosummarize=True),
                ],
            },
        ),
    ]
