"""The thirteen practices, each held to evidence: `card` has the table, `customers` and `installation` the checks."""
