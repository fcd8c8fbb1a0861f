"""Reports to senders, late bounces, suppressed addresses."""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

from relay.models.bounces import BounceClass, Report, Suppression


def _recipient(name):
    return models.ForeignKey(
        on_delete=django.db.models.deletion.CASCADE, related_name=name, to="relay.recipient", db_index=name != "reports"
    )


class Migration(migrations.Migration):
    dependencies = [("accounts", "0002_accounts_plans"), ("relay", "0013_message_events")]
    operations = [
        migrations.CreateModel(
            name="LateBounce",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
                ("action", models.CharField(max_length=9)),
                ("bounce_class", models.CharField(blank=True, choices=BounceClass.choices, max_length=14)),
                ("is_hard", models.BooleanField(default=False)),
                ("code", models.IntegerField(null=True)),
                ("enhanced_code", models.CharField(blank=True, max_length=9)),
                ("text", models.CharField(blank=True, max_length=512)),
                ("reporter", models.CharField(blank=True, max_length=255)),
                ("client_ip", models.GenericIPAddressField(null=True)),
                ("recipient", _recipient("late_bounces")),
            ],
            options={"indexes": [models.Index(fields=["at"], name="late_bounce_at")]},
        ),
        migrations.CreateModel(
            name="Report",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("kind", models.CharField(choices=Report.Kind.choices, max_length=9)),
                ("message_id", models.UUIDField()),
                ("organization_id", models.BigIntegerField()),
                ("sender", models.CharField(max_length=320)),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
                ("due_at", models.DateTimeField()),
                ("code", models.IntegerField(null=True)),
                ("enhanced_code", models.CharField(blank=True, max_length=9)),
                ("text", models.CharField(blank=True, max_length=512)),
                ("next_hop", models.CharField(blank=True, max_length=255)),
                ("is_folded", models.BooleanField(default=False)),
                ("written_at", models.DateTimeField(null=True)),
                ("report_id", models.UUIDField(null=True)),
                ("recipient", _recipient("reports")),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=["recipient", "kind"], name="report_once")],
                "indexes": [
                    models.Index(condition=models.Q(("written_at", None)), fields=["due_at"], name="report_due"),
                    models.Index(
                        condition=models.Q(("written_at", None)), fields=["message_id"], name="report_waiting"
                    ),
                    models.Index(fields=["sender", "written_at"], name="report_sender"),
                    models.Index(
                        condition=models.Q(("written_at__isnull", False)), fields=["written_at"], name="report_written"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Suppression",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("address", models.CharField(max_length=320)),
                ("source", models.CharField(choices=Suppression.Source.choices, max_length=8)),
                ("reason", models.CharField(blank=True, max_length=512)),
                ("reference", models.CharField(blank=True, max_length=10)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("created_by", models.CharField(blank=True, max_length=320)),
                (
                    "organization",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="suppressions",
                        to="accounts.organization",
                    ),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=["organization", "address"], name="suppression_once")],
                "indexes": [models.Index(fields=["organization", "-id"], name="suppression_newest")],
            },
        ),
    ]
