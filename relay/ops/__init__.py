"""What the operator's pages read, across all customers."""
