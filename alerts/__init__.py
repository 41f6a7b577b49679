"""The room where findings become alerts that a person acts on."""

from typing import Final

VARIABLES: Final = "HOPWATCH_ALERTS_"
"""What the room's environment variables begin with."""
