"""Real servers from wheels, and the small supervisor that keeps processes alive. Knows nothing of Django."""
