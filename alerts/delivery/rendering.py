"""How a letter is written for a destination: a format by its name, or a template of the user's own.

Formats are of alerts. A decision goes as the event that it is, wherever ``decisions`` is set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from alerts.formats import named, template
from alerts.formats.view import Origin
from hopwatch.events import Alert, Decision, dump

Render = Callable[[Alert | Decision], bytes]


def renderer(name: str, origin: Origin) -> Render:
    """What writes events in the format ``name``.

    Raises:
        ValueError: there is no such format; those that there are, are named.
    """
    try:
        chosen = named(name)
    except ValueError as error:
        raise ValueError(f"format {error}") from None
    return lambda event: dump(event) if isinstance(event, Decision) else chosen.render(event, origin)


def from_template(path: str, origin: Origin, settings: Mapping[str, str] | None = None) -> Render:
    """What writes alerts by a Jinja2 template: of the name of one that is shipped, or a file (``alerts.formats.template``).

    Raises:
        ValueError: the file cannot be read, or makes no body of an alert.
    """
    if path in template.SHIPPED:
        source = template.source_of(path)
    else:
        try:
            source = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise ValueError(f"template {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(f"template {path}: is no UTF-8 text") from None
    try:
        template.render(source, template.SPECIMEN, origin, settings)
    except template.BadTemplate as error:
        raise ValueError(f"{path}: {error}") from None
    return lambda event: dump(event) if isinstance(event, Decision) else template.render(source, event, origin, settings)
