"""How long things last, in the unit that times are computed in."""

from typing import Final

SECOND_NS: Final = 10**9
MINUTE_NS: Final = 60 * SECOND_NS
HOUR_NS: Final = 60 * MINUTE_NS
DAY_NS: Final = 24 * HOUR_NS
"""Of a day counted from midnight UTC; the plant's own may have 23 hours or 25."""
