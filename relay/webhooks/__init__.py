"""Webhooks: what happens to an organization's mail and credentials, posted to addresses that it names.

Shapes  An event is one row of the outbox for each endpoint that wants it (models.Delivery): written where it happens
        (outbox) or found by a sweep (sweeps), signed and posted by the sender of each worker process (sender).
Source  Standard Webhooks, https://www.standardwebhooks.com/; docs/webhooks.md.
"""
