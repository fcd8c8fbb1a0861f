"""Addresses of the pages about webhooks."""

from django.urls import include, path

from relay.views import webhooks

_endpoint = [
    path("", webhooks.endpoint, name="webhook"),
    path("change/", webhooks.change, name="webhook_change"),
    path("rotate/", webhooks.rotate, name="webhook_rotate"),
    path("end-overlap/", webhooks.overlap_end, name="webhook_overlap_end"),
    path("disable/", webhooks.disable, name="webhook_disable"),
    path("enable/", webhooks.enable, name="webhook_enable"),
    path("delete/", webhooks.delete, name="webhook_delete"),
    path("test/", webhooks.test, name="webhook_test"),
    path("replay/", webhooks.replay_failed, name="webhook_replay_failed"),
    path("deliveries/<int:delivery_id>/", webhooks.delivery, name="webhook_delivery"),
    path("deliveries/<int:delivery_id>/replay/", webhooks.delivery_replay, name="webhook_delivery_replay"),
]
urlpatterns = [
    path("webhooks/", webhooks.page, name="webhooks"),
    path("webhooks/new/", webhooks.create, name="webhook_create"),
    path("webhooks/<int:endpoint_id>/", include(_endpoint)),
]
