"""What others think of the addresses from which this relay sends. docs/operations.md, Reputation."""
