"""Mail that waits: which, why, and what people do to it."""
