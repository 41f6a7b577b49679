"""Every dashboard as the JSON that Grafana reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.grafana import declared, movement, soc, trust

FOLDER: Final = Path(__file__).parent / "json"

DASHBOARDS: Final = (movement.made, declared.made, soc.made, trust.made)


def written() -> Mapping[str, str]:
    """The text of each file by its name."""
    texts = {}
    for made in DASHBOARDS:
        built = made().build()
        texts[f"{built.uid}.json"] = JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False).encode(built) + "\n"
    return texts
