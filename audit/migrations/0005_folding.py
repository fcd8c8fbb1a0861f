"""The first moment of a folded run, and the word for connections of banned addresses."""

from django.db import migrations, models

from audit.models import Reason


class Migration(migrations.Migration):
    dependencies = [("audit", "0004_anomalies")]
    operations = [
        migrations.AddField("authevent", "first_at", models.DateTimeField(null=True)),
        *(
            migrations.AlterField(model, "reason", models.CharField(choices=Reason.choices, max_length=24))
            for model in ("authevent", "authhour")
        ),
    ]
