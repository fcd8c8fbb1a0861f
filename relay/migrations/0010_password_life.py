"""Rotation, sleep and canaries of app passwords, their policy, and what is told of them."""

import django.contrib.postgres.fields
import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0002_accounts_plans"),
        ("relay", "0009_bans"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="CredentialAlarm",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("canary", "A canary was tried"),
                            ("seen", "A live secret was seen where none belongs"),
                        ],
                        max_length=8,
                    ),
                ),
                ("place", models.CharField(max_length=32)),
                ("ip", models.GenericIPAddressField()),
                ("client_name", models.CharField(blank=True, max_length=255)),
                ("reference", models.CharField(blank=True, max_length=10)),
                ("session_organization_id", models.BigIntegerField(null=True)),
                ("count", models.IntegerField(default=1)),
                ("handled_at", models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name="LeakReport",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "digests",
                    django.contrib.postgres.fields.ArrayField(base_field=models.BinaryField(max_length=32), size=None),
                ),
                ("hint", models.CharField(max_length=12)),
                ("found_at", models.CharField(blank=True, max_length=500)),
                ("reporter", models.CharField(max_length=64)),
                ("handled_at", models.DateTimeField(null=True)),
                ("outcome", models.CharField(blank=True, max_length=16)),
            ],
        ),
        migrations.CreateModel(
            name="PasswordNotice",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("about", models.CharField(choices=[("ending", "Ending"), ("unused", "Unused")], max_length=8)),
                ("key", models.CharField(max_length=64)),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
        ),
        migrations.CreateModel(
            name="PasswordPolicy",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("max_days", models.PositiveIntegerField(blank=True, null=True)),
                ("unused_notice_days", models.PositiveIntegerField(blank=True, default=90, null=True)),
                ("sleep_days", models.PositiveIntegerField(blank=True, null=True)),
            ],
        ),
        migrations.AddField(
            model_name="apppassword",
            name="replaces",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="replacements",
                to="relay.apppassword",
            ),
        ),
        migrations.AddField(
            model_name="apppassword",
            name="revoked_because",
            field=models.CharField(
                blank=True,
                choices=[
                    ("member", "by a member or by the API"),
                    ("replaced", "its replacement has taken over"),
                    ("leaked", "it was found where it should not be"),
                ],
                db_default="",
                default="",
                max_length=8,
            ),
        ),
        migrations.AddField(
            model_name="apppassword",
            name="slept_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="apppassword",
            name="woken_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AlterField(
            model_name="apppassword",
            name="kind",
            field=models.CharField(
                choices=[("app", "App"), ("device", "Device"), ("canary", "Canary")], default="app", max_length=6
            ),
        ),
        migrations.AddIndex(
            model_name="apppassword",
            index=models.Index(fields=["digest"], name="app_password_by_digest"),
        ),
        migrations.AddField(
            model_name="credentialalarm",
            name="api_key",
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, to="accounts.apikey"),
        ),
        migrations.AddField(
            model_name="credentialalarm",
            name="app_password",
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, to="relay.apppassword"),
        ),
        migrations.AddField(
            model_name="leakreport",
            name="api_key",
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, to="accounts.apikey"),
        ),
        migrations.AddField(
            model_name="leakreport",
            name="app_password",
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, to="relay.apppassword"),
        ),
        migrations.AddField(
            model_name="passwordnotice",
            name="app_password",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="notices", to="relay.apppassword"
            ),
        ),
        migrations.AddField(
            model_name="passwordpolicy",
            name="organization",
            field=models.OneToOneField(
                on_delete=django.db.models.deletion.CASCADE, related_name="password_policy", to="accounts.organization"
            ),
        ),
        migrations.AddIndex(
            model_name="credentialalarm",
            index=models.Index(condition=models.Q(("handled_at", None)), fields=["at"], name="alarm_waiting"),
        ),
        migrations.AddIndex(
            model_name="leakreport",
            index=models.Index(condition=models.Q(("handled_at", None)), fields=["at"], name="leak_report_waiting"),
        ),
        migrations.AddConstraint(
            model_name="passwordnotice",
            constraint=models.UniqueConstraint(fields=("app_password", "about", "key"), name="password_notice_once"),
        ),
    ]
