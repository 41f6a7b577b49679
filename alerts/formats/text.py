"""An alert as a person reads it: the finding as every other place shows it (``show.violation``), and what was made of it."""

from typing import Any

from alerts.formats.view import Origin, View, view
from hopwatch.events import Alert
from hopwatch.show import clean, grouped, instant, violation


def render(alert: Alert, origin: Origin | None = None) -> str:
    """Some lines, the first of which says the most."""
    seen = view(alert, origin)
    lines = ["CANARY: a test of the way to this place, no alert"] if seen.canary else []
    lines.append(violation(_cleaned(alert.finding.model_dump()) | {"severity": alert.severity}))
    lines += _life(seen, alert)
    return "\n".join(lines)


def _cleaned(value: Any) -> Any:  # Any: JSON values
    """The same with every text in one line; a line of the whole is one that this module or ``show`` began."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(name): _cleaned(one) for name, one in value.items()}
    return [_cleaned(one) for one in value] if isinstance(value, list) else value


def _life(seen: View, alert: Alert) -> list[str]:
    state = seen.state + (f" ({seen.disposition})" if seen.disposition else "") + (f", {seen.owner}" if seen.owner else "")
    lines = [f"  alert {seen.alert_id}, revision {grouped(seen.revision)}: {seen.change}{f', {seen.why}' if seen.why else ''}"]
    lines.append(f"  {state}, raised {instant(alert.raised)}" + (f", {grouped(seen.hidden)} kept quiet" if seen.hidden else ""))
    if seen.because:
        lines.append(f"  severity: {seen.because}")
    if seen.technique_ids:
        names = {one.id: f"{one.id} {one.name}" for one in seen.techniques}
        lines.append(f"  may be: {', '.join(names.get(id, id) for id in seen.technique_ids)}")
    if seen.page:
        lines.append(f"  do next: {seen.page}")
    if seen.url:
        lines.append(f"  {seen.url}")
    return lines
