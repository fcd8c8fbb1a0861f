"""Mail that comes back: judged, told to its sender, kept from coming back again."""
