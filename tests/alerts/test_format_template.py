"""Webhook bodies: the shipped templates for any alert, and what a template may not do."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from told import ANY, NAMES, alert, alerts, one_line, shown

from alerts.delivery.rendering import from_template
from alerts.formats import FORMATS, named, template
from alerts.formats.view import Origin
from hopwatch.events import Alert

SOC = Origin("soc-1", "0.1.0", "https://console.plant.example:8443")


def shape(value: Any) -> Any:  # Any: JSON values
    """Names and kinds, without what they hold; the members of lists as one."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    return type(value).__name__


def texts(value: Any) -> Iterator[str]:  # Any: JSON values
    """Every text in it, the names of fields apart."""
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from texts(inner)


@ANY
@given(alerts(), st.sampled_from(template.SHIPPED))
def test_every_shipped_template_gives_json_of_one_shape_for_any_alert(said: Alert, name: str) -> None:
    body = json.loads(FORMATS[f"webhook-{name}"].render(said, SOC))
    usual = json.loads(FORMATS[f"webhook-{name}"].render(alert(), SOC))
    one, other = (body[0], usual[0]) if name in template.LISTS else (body, usual)
    if name not in ("slack", "teams"):
        assert shape(one) == shape(other)
    assert name == "teams" or any(shown(said.alert_id)[:20] in text for text in texts(body))


@ANY
@given(NAMES)
def test_the_words_of_an_alert_come_out_as_they_are(name: str) -> None:
    body = json.loads(FORMATS["webhook-json"].render(alert({"who": name, "source": name}, plant=name), SOC))
    assert (body["who"], body["source"], body["plant"]) == (shown(name), shown(name), shown(name))
    row = json.loads(FORMATS["webhook-sentinel"].render(alert({"who": name}), SOC))[0]
    assert row["Account"] == shown(name)
    record = json.loads(FORMATS["webhook-servicenow"].render(alert({"source": name}), SOC))
    assert one_line(record["short_description"])


@ANY
@given(NAMES)
def test_no_name_mentions_or_links_in_a_chat(name: str) -> None:
    said = alert({"who": name, "source": name})
    message = json.loads(FORMATS["webhook-slack"].render(said, SOC))
    marked = [message["text"], *(one["text"] for one in message["blocks"][2]["elements"] if one["type"] == "mrkdwn")]
    assert all("<" not in text.replace("<https://console.plant.example:8443/alerts/A-7c1e9a02aabbccdd|open>", "") for text in marked)
    card = json.loads(FORMATS["webhook-teams"].render(said, SOC))["attachments"][0]["content"]
    assert template.markdown("[a](b)") == "\\[a\\]\\(b\\)"
    assert "](" not in card["body"][1]["text"]


def test_rows_for_sentinel_are_one_list_and_tickets_are_alone() -> None:
    rows = named("webhook-sentinel")
    both = rows.together([rows.render(alert(), SOC), rows.render(alert(revision=1), SOC)])
    assert [row["Revision"] for row in json.loads(both)] == [0, 1]
    with pytest.raises(ValueError, match="each is a message of its own"):
        named("webhook-jira").together([b"{}", b"{}"])


def test_a_destination_fills_in_what_is_its_own() -> None:
    body = json.loads(template.shipped("jira", {"project": "OT", "issuetype": "Incident"})(alert(), SOC))
    assert (body["fields"]["project"], body["fields"]["issuetype"]) == ({"key": "OT"}, {"name": "Incident"})
    own = template.render('{"x": {{ verdict }}, "key": {{ settings.key }}}', alert(), SOC, {"key": 'a"b'})
    assert json.loads(own) == {"x": "undeclared-hop", "key": 'a"b'}


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ('{"who": "{{ who }}"}', "without quotes"),
        ("{{ nobody }}", "nobody"),
        ("{{ settings.nothing }}", "nothing"),
        ("{{ who.__class__.__mro__ }}", "template"),
        ("{{ who | attr('__class__') }}", "attr"),
        ("{% include 'x' %}", "template"),
        ("{% for one in range(9) %}{% endfor %}1", "range"),
        ("{{ who * 999999999 }}", "not in a template"),
        ("{{ '%999999999d' % 1 }}", "not in a template"),
        ("{{", "template"),
        ("x" * (template.SOURCE_CHARACTERS_MAX + 1), "characters"),
    ],
)
def test_a_template_that_reaches_out_or_makes_no_json_is_refused(source: str, why: str) -> None:
    with pytest.raises(template.BadTemplate, match=why):
        template.render(source, alert(), SOC)


@pytest.mark.parametrize("name", template.SHIPPED)
def test_a_template_is_tried_with_an_alert_of_nothing_before_there_is_one(name: str) -> None:
    assert template.render(template.source_of(name), template.SPECIMEN)
    render = from_template(name, SOC, {"project": "OT"})
    assert json.loads(render(alert()))
    assert b'"OT"' in render(alert()) or name != "jira"


def test_a_file_that_makes_no_body_is_refused_before_the_first_alert(tmp_path: Path) -> None:
    file = tmp_path / "own.j2"
    file.write_text('{"who": {{ whoever }}}')
    with pytest.raises(ValueError, match=r"own\.j2: template: .*whoever"):
        from_template(str(file), SOC)
    file.write_text('{"who": {{ who }}, "team": {{ settings.team }}}')
    assert json.loads(from_template(str(file), SOC, {"team": "ot"})(alert())) == {"who": "svc_report", "team": "ot"}


def test_a_body_has_a_bound() -> None:
    source = "[" + "{{ text }}," * 5000 + "1]"
    with pytest.raises(template.BadTemplate, match="bytes, expected at most"):
        template.render(source, alert(), SOC)


def test_an_unknown_format_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="ocsf-data, ecs, cef"):
        named("cee")
