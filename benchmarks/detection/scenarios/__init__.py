"""What happened elsewhere, played here: attacks that a plant must notice, each with the benign twin that looks like it.

One file a scenario; `plant.yaml` declares what is allowed on the stage. S17, S18 and S20 need parts that are not there yet.
"""

from typing import Final

from benchmarks.detection.scenarios import s01, s02, s03, s04, s05, s06, s07, s08, s09, s10, s11, s12, s13, s14, s15, s16, s19
from benchmarks.detection.scenarios.play import Scenario

_ALL: Final = (s01, s02, s03, s04, s05, s06, s07, s08, s09, s10, s11, s12, s13, s14, s15, s16, s19)
SCENARIOS: Final[dict[str, Scenario]] = {module.SCENARIO.name: module.SCENARIO for module in _ALL}
