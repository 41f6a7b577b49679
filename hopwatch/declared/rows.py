"""A declaration as rows, for whoever joins it to what moved with a database's own means (``store.schema.DECLARED``).

Who approved what and who owns it stays in the file: persons are named there. Why a hop is, is there to be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hopwatch.declared.model import Architecture
from hopwatch.declared.quantity import Period

PERIOD_S: Final = {Period.HOUR: 3_600, Period.DAY: 86_400, Period.MONTH: 30 * 86_400}
"""How long a period is; a session is no stretch of time."""

Rows = Sequence[tuple[Any, ...]]  # Any: SQL values


def rows(plant: Architecture, edition: str) -> Mapping[str, Rows]:
    """The rows of each table; accounts stand in clear in ``declared_hops``, third."""
    name = plant.plant
    return {
        "declared_plants": [(name, edition, plant.version, plant.declaration.signed, plant.review_by)],
        "declared_classes": [
            (name, one, place, said.sensitivity, said.off_site) for place, (one, said) in enumerate(plant.classes.items())
        ],
        "declared_zones": [
            (
                name, zone, said.level, said.off_site, said.country, said.operator,
                said.terms and said.terms.ref, said.terms and said.terms.until,
            )
            for zone, said in plant.zones.items()
        ],
        "declared_assets": [(name, asset, said.zone, said.kind) for asset, said in plant.assets.items()],
        "declared_conduits": [(name, one, said.from_, said.to, said.agent, said.sees) for one, said in plant.conduits.items()],
        "declared_hops": [
            (
                name, one, hop.who, hop.from_, hop.to, *(sorted(zones) for zones in plant.hop_zones(hop)), list(hop.may),
                plant.hop_classes(hop), plant.off_site(hop), hop.why, str(hop.keep), plant.hop_until(hop),
                hop.approved and hop.approved.ticket,
            )
            for one, hop in plant.hops.items()
        ],
        "declared_limits": [
            (name, one, limit.unit.value, limit.amount, PERIOD_S.get(limit.period), str(limit))
            for one, hop in plant.hops.items()
            for limit in hop.limit
        ],
    }  # fmt: skip
