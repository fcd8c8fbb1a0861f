"""Environment of a test run, set before Django reads its settings: secrets of this run alone, no demo."""

import os
import secrets

from cryptography.fernet import Fernet

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
os.environ["GATEPOST_DEMO"] = "0"
os.environ["GATEPOST_DEFAULT_ROUTE"] = "sandbox"
os.environ["GATEPOST_HOSTNAME"] = "mail.gatepost.example"
os.environ["GATEPOST_WEB_URL"] = "http://testserver"
os.environ["GATEPOST_SIGNUP"] = "open"
os.environ["GATEPOST_ALLOWED_HOSTS"] = "testserver,127.0.0.1,localhost"
os.environ["GATEPOST_INSECURE_COOKIES"] = "1"
os.environ["GATEPOST_RESOLVERS"] = "127.0.0.1:9"  # nobody answers there: a test that needs DNS brings its own server
os.environ["GATEPOST_BLOCKLISTS"] = "none"
for name in ("GATEPOST_SECRET_KEY", "GATEPOST_PEPPER", "GATEPOST_AUDIT_KEY"):
    os.environ[name] = secrets.token_urlsafe(48)
os.environ["GATEPOST_ENCRYPTION_KEYS"] = Fernet.generate_key().decode()
