"""What CRAM-MD5, device passwords in SCRAM, and sessions of access tokens need beside a digest."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("relay", "0006_content_external")]
    operations = [
        migrations.AddField("apppassword", "cram_md5_secret", models.BinaryField(null=True)),
        migrations.AddField("apppassword", "scram_keys_as_shown", models.BinaryField(max_length=64, null=True)),
        migrations.AddField("smtpuser", "token_epoch", models.PositiveIntegerField(db_default=0, default=0)),
    ]
