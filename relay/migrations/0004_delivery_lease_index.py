"""An index over what is leased: a few hundred rows, renewed and looked through every few seconds."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("relay", "0003_organization_route")]

    operations = [
        migrations.AddIndex(
            model_name="recipient",
            index=models.Index(condition=models.Q(("lease__isnull", False)), fields=["lease"], name="recipient_leased"),
        ),
    ]
