"""Processes that serve: each writes its heartbeat, so that the Floor and doctor see who lives."""

from django.db import models


class Worker(models.Model):
    name = models.CharField(max_length=64, primary_key=True)  # smtpd@host:pid
    kind = models.CharField(max_length=16)  # smtpd, delivery
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    figures = models.JSONField(default=dict)
