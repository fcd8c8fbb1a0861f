"""What the SMTP door refused of somebody who had signed in: the row that a reference finds."""

from django.db import models


class Refusal(models.Model):
    at = models.DateTimeField()
    reference = models.CharField(max_length=10)
    organization_id = (
        models.BigIntegerField()
    )  # values, not foreign keys: written in bulk, history outlives its subject
    smtp_user_id = models.BigIntegerField()
    ip = models.GenericIPAddressField()
    client_name = models.CharField(max_length=255, blank=True)
    code = models.SmallIntegerField()
    enhanced_code = models.CharField(max_length=9)
    text = models.CharField(max_length=512)
    about = models.CharField(max_length=320, blank=True)  # the address, or our own cause, that the reply speaks of
    reverse_path = models.CharField(max_length=320, blank=True)
    worker = models.CharField(max_length=64)

    class Meta:
        indexes = [
            models.Index(fields=["organization_id", "-at"], name="refusal_organization"),
            models.Index(fields=["reference"], name="refusal_reference"),
        ]
