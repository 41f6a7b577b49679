"""Every dashboard as the JSON that Grafana reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.grafana import declared, movement, soc, trust
from dashboards.grafana.parts import unfiltered

FOLDER: Final = Path(__file__).parent / "json"

_OF_INTERVALS: Final = ("auto", "auto_min", "auto_count")

DASHBOARDS: Final = (movement.made, declared.made, soc.made, trust.made)


def written() -> Mapping[str, str]:
    """The text of each file by its name."""
    texts = {}
    for made in DASHBOARDS:
        built = made().build()
        said = json.loads(JSONEncoder().encode(built))
        for variable in said["templating"]["list"]:
            # The SDK says of every variable what is of intervals only; Grafana's schema knows it of none else.
            for name in _OF_INTERVALS:
                variable.pop(name, None)
        for panel in said["panels"]:
            for inner in panel.get("panels", []) if panel["type"] == "row" else [panel]:
                inner["description"] += unfiltered(inner)
        texts[f"{built.uid}.json"] = json.dumps(said, sort_keys=True, indent=2, ensure_ascii=False) + "\n"
    return texts
