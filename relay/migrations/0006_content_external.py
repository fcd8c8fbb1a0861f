"""Content is stored as it is: pglz costs three quarters of PostgreSQL time on real text, and mostly gives up on it."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("relay", "0005_refusal")]
    operations = [
        migrations.RunSQL(
            "ALTER TABLE relay_messagedata ALTER COLUMN content SET STORAGE EXTERNAL",
            "ALTER TABLE relay_messagedata ALTER COLUMN content SET STORAGE EXTENDED",
        )
    ]
