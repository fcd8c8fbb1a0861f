"""Bans of addresses that guess, and the ranges that are never banned."""

import django.contrib.postgres.fields
import django.utils.timezone
from django.db import migrations, models

import relay.models.fields


class Migration(migrations.Migration):
    dependencies = [
        ("relay", "0008_learning_and_policies"),
    ]

    operations = [
        migrations.CreateModel(
            name="Ban",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("cidr", relay.models.fields.CidrField()),
                ("began_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("ends_at", models.DateTimeField()),
                ("turn", models.PositiveIntegerField(default=1)),
                ("evidence", models.JSONField(default=dict)),
                (
                    "exempt",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.GenericIPAddressField(), blank=True, default=list, size=None
                    ),
                ),
                ("lifted_at", models.DateTimeField(blank=True, null=True)),
                ("lifted_by", models.CharField(blank=True, max_length=320)),
                ("worker", models.CharField(max_length=64)),
            ],
        ),
        migrations.CreateModel(
            name="ProtectedRange",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("cidr", relay.models.fields.CidrField(unique=True)),
                ("label", models.CharField(blank=True, max_length=64, verbose_name="Label")),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("created_by", models.CharField(max_length=320)),
            ],
        ),
        migrations.AddIndex(
            model_name="ban",
            index=models.Index(fields=["-began_at"], name="ban_began"),
        ),
        migrations.AddIndex(
            model_name="ban",
            index=models.Index(fields=["ends_at"], name="ban_ends"),
        ),
        migrations.AddIndex(
            model_name="ban",
            index=models.Index(fields=["lifted_at"], name="ban_lifted"),
        ),
        migrations.AddIndex(
            model_name="ban",
            index=models.Index(fields=["cidr", "-began_at"], name="ban_cidr"),
        ),
    ]
