"""Allowlists that are being learned, and what an organization refuses of old ways to sign in."""

import django.contrib.postgres.fields
import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0002_accounts_plans"),
        ("relay", "0007_mechanisms"),
    ]

    operations = [
        migrations.CreateModel(
            name="SignInPolicy",
            fields=[
                (
                    "organization",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="sign_in_policy",
                        serialize=False,
                        to="accounts.organization",
                    ),
                ),
                (
                    "tls_least",
                    models.CharField(
                        choices=[("TLSv1.2", "TLS 1.2 or newer"), ("TLSv1.3", "TLS 1.3 only")],
                        default="TLSv1.2",
                        max_length=8,
                    ),
                ),
                (
                    "refused_mechanisms",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=32), blank=True, default=list, size=None
                    ),
                ),
                ("changed_at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
        ),
        migrations.CreateModel(
            name="NetworkLearning",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("since", models.DateTimeField()),
                ("started_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("planned_until", models.DateTimeField()),
                ("started_by", models.CharField(max_length=320)),
                ("draft", models.JSONField(null=True)),
                (
                    "app_password",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="learnings",
                        to="relay.apppassword",
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="learnings",
                        to="accounts.organization",
                    ),
                ),
                (
                    "smtp_user",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="learnings",
                        to="relay.smtpuser",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("organization", "smtp_user", "app_password"),
                        name="network_learning_once",
                        nulls_distinct=False,
                    )
                ],
            },
        ),
    ]
