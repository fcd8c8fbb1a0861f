"""What was said in an attempt, and next hops that could not be used lately."""

import django.utils.timezone
from django.db import migrations, models

# An attempt is written before the final dot and again after the answer: with room left in its page the second version
# lies beside the first, and no index learns of it.
ROOM = "ALTER TABLE relay_deliveryattempt SET (fillfactor = 70)"


class Migration(migrations.Migration):
    dependencies = [("relay", "0016_route_mx")]
    operations = [
        migrations.AddField(
            model_name="deliveryattempt",
            name="conversation",
            field=models.TextField(blank=True, db_default="", default=""),
        ),
        migrations.RunSQL(ROOM, "ALTER TABLE relay_deliveryattempt RESET (fillfactor)"),
        migrations.CreateModel(
            name="NextHopTrouble",
            fields=[
                ("lane", models.CharField(max_length=400, primary_key=True, serialize=False)),
                ("failures", models.IntegerField(default=1)),
                ("blocked_until", models.DateTimeField()),
                ("since", models.DateTimeField(default=django.utils.timezone.now)),
                ("last_reply", models.CharField(blank=True, max_length=512)),
            ],
        ),
    ]
