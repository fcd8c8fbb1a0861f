"""Amounts as people read them."""


def money(cents: int, currency: str) -> str:
    """$145.00, -$7.25, or 12.50 EUR: to the cent."""
    amount = f"{abs(cents) // 100:,}.{abs(cents) % 100:02}"
    sign = "-" if cents < 0 else ""
    return f"{sign}${amount}" if currency == "USD" else f"{sign}{amount} {currency}"
