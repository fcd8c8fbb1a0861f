"""The web process's entry: Django over ASGI, within bounds."""

import os

from django.core.asgi import get_asgi_application

from config.bounds import BodyBound

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

application = BodyBound(get_asgi_application())
