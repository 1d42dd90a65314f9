"""How many of what, and how many dollars, as people read it."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal


def counted(count: int, one: str, many: str = "") -> str:
    """The number with its noun; `many` where the plural takes more than an s.

    >>> counted(1, "document"), counted(1150, "chunk"), counted(0, "query", "queries")
    ('1 document', '1,150 chunks', '0 queries')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def dollars(amount: float) -> str:
    """US dollars with as many places as a small bill needs.

    >>> dollars(1234.5), dollars(0.0), dollars(0.00046), dollars(0.00000012)
    ('$1,234.50', '$0.00', '$0.00046', '$0.00000012')
    """
    if amount >= 1 or amount == 0:
        return f"${amount:,.2f}"
    text = f"{amount:.6f}" if amount >= 1e-6 else f"{Decimal(f'{amount:.2g}'):f}"
    return f"${text.rstrip('0')}"


def plain(amount: float) -> str:
    """A number as it may be typed, without an exponent.

    >>> plain(5.0), plain(0.000001)
    ('5', '0.000001')
    """
    return f"{Decimal(f'{amount:.12g}'):f}"


def enough(amount: float) -> str:
    """A number to type that is no smaller: rounded up to cents, below a dollar to millionths.

    >>> enough(3.141), enough(0.0123451), enough(0.0)
    ('3.15', '0.012346', '0.00')
    """
    places = Decimal(1).scaleb(-2 if amount >= 1 or amount == 0 else -6 if amount >= 1e-6 else -12)
    return f"{Decimal(amount).quantize(places, ROUND_CEILING):f}"
