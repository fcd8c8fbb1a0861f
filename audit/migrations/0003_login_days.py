"""Accepted sign-ins by day, with credential, mechanism and TLS version."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("audit", "0002_mechanism_reasons"),
    ]

    operations = [
        migrations.CreateModel(
            name="LoginDay",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("day", models.DateField()),
                ("organization_id", models.BigIntegerField(null=True)),
                ("smtp_user_id", models.BigIntegerField(null=True)),
                ("app_password_id", models.BigIntegerField(null=True)),
                ("ip", models.GenericIPAddressField()),
                ("mechanism", models.CharField(max_length=32)),
                ("tls_version", models.CharField(blank=True, max_length=16)),
                ("client_name", models.CharField(blank=True, max_length=255)),
                ("count", models.BigIntegerField()),
                ("first_at", models.DateTimeField()),
                ("last_at", models.DateTimeField()),
            ],
            options={
                "indexes": [models.Index(fields=["organization_id", "-day"], name="login_day_organization")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=(
                            "day",
                            "organization_id",
                            "smtp_user_id",
                            "app_password_id",
                            "ip",
                            "mechanism",
                            "tls_version",
                        ),
                        name="login_day_key",
                        nulls_distinct=False,
                    )
                ],
            },
        ),
    ]
