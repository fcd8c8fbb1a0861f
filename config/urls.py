"""Every address of the installation, by door."""

from django.urls import include, path

from config.api import api

urlpatterns = [
    path("", include("relay.urls")),
    path("account/", include("accounts.urls")),
    path("api/v1/", api.urls),
]
