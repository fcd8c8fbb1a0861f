"""benchmarks.fill: a database that looks old, and in it SCRAM logins that are real."""

import psycopg
import pytest
from django.db import connection

from benchmarks import fill
from relay import load
from relay.app_passwords import scram_keys
from relay.models import AppPassword, Message


@pytest.mark.django_db(transaction=True)
def test_some_scram_keys_are_real(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as said, of different SMTP users; all others have keys that no secret has, of the right length."""
    monkeypatch.setattr(fill, "SCRAM_LOGINS", 20)
    list(load.seed(smtp_users=2, route=load.parse_route("hold")))
    connection.close()
    words = connection.settings_dict
    with psycopg.connect(host=words["HOST"], dbname=words["NAME"], user="postgres", autocommit=True) as own:
        fill.fill(own, scale=0.0001)
    filled = list(AppPassword.objects.filter(name="fill").select_related("smtp_user"))
    assert len(filled) == 300 and Message.objects.count() == 500
    real = []
    for row in filled:
        assert (len(row.scram_stored_key), len(row.scram_server_key)) == (32, 32)
        keys = scram_keys(fill.scram_secret(row.pk), salt=bytes(row.smtp_user.scram_salt), iterations=4096)
        if keys == (bytes(row.scram_stored_key), bytes(row.scram_server_key)):
            real.append(row.smtp_user_id)
    assert len(real) == 20 == len(set(real))
