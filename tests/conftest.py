"""The cast of every test: alice (a customer), bob (another customer), carol (the operator)."""
