"""Every figure for Prometheus in one table: `python -m scripts.metrics` writes docs/metrics.md, a test holds it to the code."""

from collections.abc import Sequence
from pathlib import Path

from agent.metrics import METRICS as AGENT
from alerts.delivery.metrics import METRICS as DELIVERY
from alerts.running import METRICS as ALERTS
from hopwatch.figures import DETECTING, STORING, WATCHING
from hopwatch.metrics import SENSOR, SERIES_MAX, Metric

PAGE = Path(__file__).parent.parent / "docs" / "metrics.md"
GROUPS: Sequence[Sequence[Metric]] = (AGENT, WATCHING, DETECTING, STORING, DELIVERY, ALERTS)

HEAD = f"""# Figures for Prometheus

Made from the code by `python -m scripts.metrics`; a test holds it to that.

`--metrics 127.0.0.1:9464` (`metrics` in the settings) serves them; an address that is not of the loopback interface needs a word
before it, `exposed:0.0.0.0:9464`: nobody is asked for a password. Rules, alerts and a scrape configuration: [dashboards](dashboards.md).

- No label bears an account, an address or an object. `plant`, `agent`, `class`, `zone`, `topic`, `destination` are of the declaration and
  the configuration; `verdict` and `severity` those of [verdicts](verdicts.md), `stage` and `depth` those of [events](events.md).
- A metric tells at most {SERIES_MAX} sets of labels apart; what would be a further one is counted under `~other` in every label.
- `class` is the highest class of what moved in a window, `~none` where nothing classed did; `zone` is where it went, `~outside` for
  an address in no zone. Data that two agents saw is counted once.
- What is judged counts when it is kept: what a database lost is judged again and counts once. A restart begins at zero, as counters do.
- A heartbeat's time is when the broker received it (`watch`: when it was read), not what the agent's clock said.

Beside these, every program has `hopwatch_build_info` and the process's own (`process_cpu_seconds_total`,
`process_resident_memory_bytes`, …); `agent` and `watch` have the counters of the packet path as `{SENSOR}…_total`, by the names that
`hopwatch inspect --json` has ([capture](capture.md)).
"""


def page() -> str:
    """The page as it is to be."""
    every = {metric.name: metric for group in GROUPS for metric in group}
    rows = [
        f"| `{metric.name}` | {metric.kind} | {', '.join(f'`{label}`' for label in metric.labels)} | {metric.about} | "
        f"{', '.join(metric.programs)} |"
        for metric in every.values()
    ]
    return "\n".join([HEAD, "| name | kind | labels | what | of |", "| --- | --- | --- | --- | --- |", *rows, ""])


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
