"""Words for what can go wrong with CRAM-MD5 and access tokens; the columns stay as they are."""

from django.db import migrations, models

from audit.models import Reason


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial")]
    operations = [
        migrations.AlterField(model, "reason", models.CharField(choices=Reason.choices, max_length=24))
        for model in ("authevent", "authhour")
    ]
