app_name = "relay"
urlpatterns = []
