"""MTA-STS policies of recipients' domains."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("relay", "0017_conversations")]
    operations = [
        migrations.CreateModel(
            name="MtaStsPolicy",
            fields=[
                ("domain", models.CharField(max_length=253, primary_key=True, serialize=False)),
                ("policy_id", models.CharField(max_length=32)),
                ("mode", models.CharField(max_length=8)),
                ("mx", models.JSONField(default=list)),
                ("max_age", models.IntegerField()),
                ("fetched_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField()),
            ],
        ),
    ]
