"""Bodies of webhooks from templates (Jinja2, sandboxed): shipped ones for tickets, chats and Microsoft Sentinel, and the user's own.

A template of JSON writes ``{"who": {{ who }}}``: every value that it puts out is written as a JSON value, so no name can end a string,
and whatever comes out is read back as JSON before it is given away. A template sees the words of one alert (``words``) and the
``settings`` of its destination, and nothing else: the sandbox gives no attribute of Python's own, no other template, no global.
"""

import json
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, Final

from jinja2 import StrictUndefined, Template, TemplateError, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from alerts.formats import text
from alerts.formats.view import Origin, View, severity_number, view
from hopwatch.events import Alert, time_text

SHIPPED: Final = ("json", "servicenow", "jira", "sentinel", "slack", "teams")
"""Templates that come with the package, by name: ``templates/NAME.json.j2``."""

LISTS: Final = frozenset({"sentinel"})
"""Those whose body is a JSON list, which several alerts share."""

SOURCE_CHARACTERS_MAX: Final = 65_536
"""Characters of a template."""

BODY_BYTES_MAX: Final = 1_048_576
"""Bytes of a body; Sentinel's ingestion takes 1 MiB a call, the others less or more."""

SPECIMEN: Final = Alert.model_validate(
    {
        "event_id": "0" * 32, "alert_id": "A-specimen", "plant": "specimen", "time": "2026-01-01T00:00:00Z", "change": "raised",
        "severity": "info", "raised": "2026-01-01T00:00:00Z", "canary": True,
        "finding": {
            "event_id": "0" * 32, "finding_id": "F-specimen", "verdict": "specimen", "severity": "info", "plant": "specimen",
            "first_seen": "2026-01-01T00:00:00Z", "last_seen": "2026-01-01T00:00:00Z", "source": "here", "destination": "there",
        },
    }
)  # fmt: skip
"""An alert of nothing, to try a template with before there is one of something."""

Json = dict[str, Any]  # Any: JSON values


class BadTemplate(ValueError):
    """A template that cannot be used, or that made no JSON; the message says where."""


class _Sandbox(ImmutableSandboxedEnvironment):
    """Templates add and join; operators that make something vast of little are not theirs."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:  # Any: as Jinja2 declares it
        raise BadTemplate(f"template: {operator} is not in a template")


def render(source: str, alert: Alert, origin: Origin | None = None, settings: Mapping[str, str] | None = None) -> bytes:
    """The body that a template makes of an alert, as compact JSON.

    Raises:
        BadTemplate: the template is none, asks for what is not there, or makes no JSON.
    """
    try:
        made = _compiled(source).render(words(alert, origin), settings=dict(settings or {}))
    except (TemplateError, TypeError, ArithmeticError, LookupError, OverflowError, RecursionError) as error:
        raise BadTemplate(f"template: {error}") from None
    try:
        body = json.dumps(json.loads(made), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        where = f"line {error.lineno} of its output" if isinstance(error, json.JSONDecodeError) else "its output"
        raise BadTemplate(f"template: no JSON at {where}; values are written without quotes around them") from None
    if len(body) > BODY_BYTES_MAX:
        raise BadTemplate(f"template: {len(body)} bytes, expected at most {BODY_BYTES_MAX}")
    return body


def shipped(name: str, settings: Mapping[str, str] | None = None) -> Callable[[Alert, Origin], bytes]:
    """The renderer of a template that comes with the package."""

    def rendered(alert: Alert, origin: Origin) -> bytes:
        return render(source_of(name), alert, origin, settings)

    return rendered


@cache
def source_of(name: str) -> str:
    """The text of a shipped template.

    Raises:
        BadTemplate: there is none of that name.
    """
    if name not in SHIPPED:
        raise BadTemplate(f"{name}: no such template, expected one of {', '.join(SHIPPED)}")
    return (files("alerts.formats") / "templates" / f"{name}.json.j2").read_text(encoding="utf-8")


def words(alert: Alert, origin: Origin | None = None) -> Json:
    """What a template may say of an alert, each printable and in one line; ``text`` alone has several."""
    seen = view(alert, origin)
    return _words(seen) | {"text": text.render(alert, origin)}


def _words(seen: View) -> Json:
    return {
        "event_id": seen.event_id,
        "alert_id": seen.alert_id,
        "finding_id": seen.finding_id,
        "revision": seen.revision,
        "change": seen.change,
        "why": seen.why,
        "state": seen.state,
        "disposition": seen.disposition,
        "owner": seen.owner,
        "severity": seen.severity,
        "severity_number": severity_number(seen.severity),
        "because": seen.because,
        "verdict": seen.verdict,
        "title": seen.title,
        "message": seen.message,
        "plant": seen.plant,
        "who": seen.who,
        "client": "" if seen.client is None else seen.client.name,
        "source": seen.source.name,
        "source_ip": "" if seen.source.address is None else str(seen.source.address),
        "destination": seen.destination.name,
        "destination_ip": "" if seen.destination.address is None else str(seen.destination.address),
        **seen.moved,
        "hop": seen.hop,
        "differences": seen.differing,
        "techniques": [{"id": one.id, "name": one.name, "tactic": one.tactic, "url": one.url} for one in seen.techniques],
        "technique_ids": list(seen.technique_ids),
        "declaration": seen.declaration,
        "completeness": seen.completeness,
        "time": time_text(seen.time_ns),
        "raised": time_text(seen.raised_ns),
        "first_seen": time_text(seen.first_ns),
        "last_seen": time_text(seen.last_ns),
        "page": seen.page,
        "url": seen.url,
        "canary": seen.canary,
        "host": seen.origin.host,
        "version": seen.origin.version,
    }


def slack(value: object) -> str:
    """Text that Slack shows as it is: ``&``, ``<`` and ``>`` begin its mentions and links."""
    return str(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def markdown(value: object) -> str:
    """Text that an adaptive card's Markdown shows as it is."""
    return "".join(f"\\{one}" if one in "\\`*_[]()#+!|<>~-" else one for one in str(value))


@lru_cache(maxsize=64)
def _compiled(source: str) -> Template:
    if len(source) > SOURCE_CHARACTERS_MAX:
        raise BadTemplate(f"template: {len(source)} characters, expected at most {SOURCE_CHARACTERS_MAX}")
    environment = _Sandbox(undefined=StrictUndefined, finalize=_json, autoescape=False, cache_size=0)
    environment.globals = {}
    environment.filters = {name: environment.filters[name] for name in ("join", "upper", "lower", "length", "default", "first", "replace")}
    environment.filters |= {"slack": slack, "markdown": markdown}
    try:
        return environment.from_string(source)
    except TemplateError as error:
        raise BadTemplate(f"template: {error}") from None


def _json(value: Any) -> str:  # Any: whatever an expression gives
    """The value as JSON; what no alert holds has none, and its name stands in the error."""
    if isinstance(value, Undefined):
        str(value)
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
