"""The route mx: from a recipient's domain to the servers that take its mail, and the TLS that each must have."""
