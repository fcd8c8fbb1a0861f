"""What failed at the door before a name was known."""

from django.db import migrations, models

from relay.models.door_failures import DoorFailure


class Migration(migrations.Migration):
    dependencies = [("relay", "0011_index_once")]
    operations = [
        migrations.CreateModel(
            name="DoorFailure",
            fields=[
                ("reference", models.CharField(max_length=10, primary_key=True, serialize=False)),
                ("place", models.CharField(max_length=43)),
                ("cause", models.CharField(choices=DoorFailure.Cause.choices, max_length=16)),
                ("port", models.IntegerField()),
                ("count", models.BigIntegerField()),
                ("first_at", models.DateTimeField()),
                ("last_at", models.DateTimeField()),
                ("detail", models.CharField(blank=True, max_length=255)),
                ("worker", models.CharField(max_length=64)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["place", "-last_at"], name="door_failure_place"),
                    models.Index(fields=["last_at"], name="door_failure_last"),
                ],
            },
        ),
    ]
