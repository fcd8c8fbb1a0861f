"""The route mx."""

from django.db import migrations, models

from relay.models.messages import Route


class Migration(migrations.Migration):
    dependencies = [("relay", "0015_named_routes")]
    operations = [
        migrations.AlterField(
            model_name="message",
            name="route",
            field=models.CharField(choices=Route.choices, max_length=16),
        ),
    ]
