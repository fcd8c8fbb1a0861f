"""What domains demand of those who deliver to them: MTA-STS policies, kept for as long as they say."""

from django.db import models


class MtaStsPolicy(models.Model):
    """The policy of one recipient's domain. It holds until it ends, whatever the DNS says meanwhile (RFC 8461 3.3)."""

    domain = models.CharField(max_length=253, primary_key=True)  # A-labels, lower case
    policy_id = models.CharField(max_length=32)  # of the record at _mta-sts.<domain> when it was fetched
    mode = models.CharField(max_length=8)  # enforce, testing or none
    mx = models.JSONField(default=list)  # patterns
    max_age = models.IntegerField()  # seconds
    fetched_at = models.DateTimeField()
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.domain}: {self.mode}"
