"""The dashboards that are shipped are those of the code, ask only what is provisioned, and lead somewhere."""

import re
from pathlib import Path

from ruamel.yaml import YAML

from dashboards.console.app import ADDRESSES
from dashboards.grafana.pages import FOLDER, written
from dashboards.grafana.parts import NODES_MAX, POSTGRESQL, PROMETHEUS
from tests.integration.panels import loaded, panels, targets

PROVISIONING = Path(FOLDER).parent / "provisioning"
BUILT_IN = {"nodeGraph", "table", "timeseries", "stat", "state-timeline"}


def test_the_files_are_what_the_code_says() -> None:
    assert {path.name: path.read_text() for path in FOLDER.glob("*.json")} == written(), "run: make dashboards"


def test_every_query_goes_to_a_source_that_is_provisioned() -> None:
    provisioned = YAML(typ="safe").load((PROVISIONING / "datasources" / "hopwatch.yaml").read_text())["datasources"]
    known = {(one["type"], one["uid"]) for one in provisioned}
    assert known == {(one.type_val, one.uid) for one in (PROMETHEUS, POSTGRESQL)}
    for dashboard in loaded():
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                assert (variable["datasource"]["type"], variable["datasource"]["uid"]) in known
        for panel in panels(dashboard):
            assert panel["type"] in BUILT_IN and panel["description"], panel["title"]
            for said in panel["targets"]:
                source = said["datasource"]
                assert (source["type"], source["uid"]) in known, panel["title"]


def test_each_has_its_variables_and_the_ways_on() -> None:
    by_uid = {dashboard["uid"]: dashboard for dashboard in loaded()}
    assert set(by_uid) == {"hopwatch-movement", "hopwatch-declared", "hopwatch-soc", "hopwatch-trust"}
    for dashboard in by_uid.values():
        names = {variable["name"] for variable in dashboard["templating"]["list"]}
        assert names == {"plant", "zone", "class", "account", "console"}
        used = {name for target in targets(dashboard) for name in re.findall(r"\$\{?([a-z]\w*)", target.text)}
        assert used <= names, dashboard["uid"]
        text = (FOLDER / f"{dashboard['uid']}.json").read_text()
        for uid in re.findall(r'"url": "/d/([\w-]+)\?', text):
            assert uid in by_uid
        # An alert is found by its own id, or by that of its finding.
        known = {re.sub(r"\{\w+\}.*", "", address) for method, address, _, _ in ADDRESSES if method == "GET"}
        assert set(re.findall(r'"\$\{console\}(/[\w/-]*)', text)) <= known
    for name in ("soc", "declared"):
        assert "${console}/alerts/${__value.raw" in (FOLDER / f"hopwatch-{name}.json").read_text()


def test_a_panel_is_narrowed_by_every_variable_or_says_which_not() -> None:
    of_figures = " (its figures have no such labels)"
    for dashboard in loaded():
        for panel in panels(dashboard):
            used = [set(re.findall(r"\$\{?([a-z]\w*)", target.text)) for target in targets({"uid": "", "panels": [panel]})]
            missing = [name for name in ("plant", "zone", "class", "account") if not all(name in names for names in used)]
            said = re.search(r"Not narrowed by ([a-z, ]+)(.*)\.$", panel["description"])
            assert (said[1].strip() if said else "") == ", ".join(missing), panel["title"]
            if panel["datasource"]["type"] == POSTGRESQL.type_val:
                # Only what agents say of themselves is of no class and no account.
                assert missing in ([], ["class", "account"]), panel["title"]
            else:
                assert said and said[2].strip() == of_figures.strip() and "account" in missing, panel["title"]


def test_a_graph_stays_under_what_a_browser_shows() -> None:
    assert NODES_MAX + 1 <= 1_500
