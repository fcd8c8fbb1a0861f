"""The routers of /api/v1/, one for each noun. config/api.py puts them together."""
