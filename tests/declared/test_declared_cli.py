"""The commands: what they print and with which code they end."""

import argparse
import json
import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from detectors.whatif import what_if
from hopwatch.declared.cli import add_commands, run
from hopwatch.declared.load import load

SVG = "{http://www.w3.org/2000/svg}"
PLANT = Path(__file__).parents[2] / "examples" / "plant-north.yaml"


def declared(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    add_commands(parser)
    return run(parser.parse_args([*map(str, arguments)]), what_if, lambda args: 3, lambda args: 4)


def test_validate_holds_on_its_day_and_finds_what_ended_later(capsys: pytest.CaptureFixture[str]) -> None:
    assert declared("validate", PLANT, "--at", "2026-04-07") == 0
    assert "UNSIGNED" in capsys.readouterr().out
    assert declared("validate", PLANT, "--at", "2026-07-01", "--json") == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["key"] for line in lines if line.get("level") == "finding"} == {"accounts.acme.expires", "hops.acme-diagnose.approved"}
    assert (lines[-1]["kind"], lines[-1]["holds"], lines[-1]["findings"]) == ("declaration", False, 2)


def test_validate_of_a_refused_file_ends_with_2_and_names_the_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plant-north.yaml"
    path.write_text(PLANT.read_text("utf-8").replace(', pseudonymise: ["*.operator_id"]', ""), "utf-8")
    assert declared("validate", path) == 2
    assert capsys.readouterr().err == (
        "plant-north.yaml:117:5 lake-upload: class operator may leave the site only pseudonymised; "
        'add protect.pseudonymise for "*.operator_id"\n'
    )
    assert declared("validate", path, "--json") == 2
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (first["line"], first["column"], first["rule"], first["key"]) == (117, 5, "residency", "hops.lake-upload.protect")


def test_explain_hop_says_what_is_hidden_in_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert declared("explain-hop", PLANT, "lake-upload") == 0
    said = capsys.readouterr().out
    assert said.startswith("north v14, ") and "UNSIGNED" in said.splitlines()[0]
    assert "*.operator_id must be pseudonymised first." in said
    assert "The data leaves the site: CloudCo in DE, terms VND-031." in said
    assert "only ends, bytes, times and TLS version are known" in said
    assert "It also counts towards 300 MiB / 1d of all hops with quality to off-site." in said
    assert declared("explain-hop", PLANT, "nothing") == 2


def test_limits_of_an_account_are_shown_where_its_hops_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plant.yaml"
    own = "expires: 2026-06-30, limit: [1 GiB / 30d, 9k values / session]"
    path.write_text(PLANT.read_text("utf-8").replace("expires: 2026-06-30", own, 1), "utf-8")
    assert declared("explain-hop", path, "acme-diagnose", "--at", "2026-04-07") == 0
    assert "It also counts towards 1 GiB / 30d of acme on each object; 9k values / session of acme." in capsys.readouterr().out
    assert declared("table", path, "--at", "2026-04-07") == 0
    assert "| 1 GiB / 30d of acme on each object; 9k values / session of acme |" in capsys.readouterr().out
    assert declared("what-if", path, "acme", "opc-l2", "acme-rs", "line-tags", "9", "--at", "2026-04-07") in (0, 1)
    assert "within 1 GiB / 30d of acme on each object, with what else counts towards it" in capsys.readouterr().out


def test_what_if_is_headed_by_the_declaration_and_ends_with_0_1_or_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert declared("what-if", PLANT, "svc_mw", "mes-db", "mw", "quality.defect", "200k", "--at", "2026-04-07") == 0
    head, answer = capsys.readouterr().out.splitlines()[:2]
    assert "UNSIGNED" in head and answer == "approved by extract-quality"
    assert declared("what-if", PLANT, "svc_mw", "mes-db", "mw", "quality.defect", "200001", "--at", "2026-04-07") == 1
    assert "over-limit" in capsys.readouterr().out
    assert declared("what-if", PLANT, "svc_mw", "mes-db", "nowhere", "quality.defect", "1") == 2
    assert "nowhere is no asset or zone" in capsys.readouterr().err


def test_table_has_a_row_for_each_hop_and_no_cell_a_spreadsheet_would_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert declared("table", PLANT) == 0
    assert capsys.readouterr().out.count("\n| ") == 10
    path = tmp_path / "plant.yaml"
    path.write_text(PLANT.read_text("utf-8").replace("why: process history", "why: =cmd()"), "utf-8")
    assert declared("table", path, "--csv") == 0
    out = capsys.readouterr().out
    assert "'=cmd()" in out
    assert ",=cmd()" not in out


def test_drawing_is_well_formed_escaped_and_the_same_each_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plant.yaml"
    path.write_text(PLANT.read_text("utf-8"), "utf-8")
    drawn = []
    for _ in range(2):
        assert declared("draw", path) == 0
        drawn.append(capsys.readouterr().out)
    assert drawn[0] == drawn[1]
    titles = [element.text or "" for element in ElementTree.fromstring(drawn[0]).iter("{http://www.w3.org/2000/svg}title")]
    assert sum(title.startswith("collect-tags") for title in titles) == 1
    assert declared("draw", path, "--format", "mermaid") == 0
    assert 'a6 ==>|"lake-upload: svc_lake, 250 MiB / 1d"| a8' in capsys.readouterr().out


@pytest.mark.parametrize("name", ["plant-north.yaml", "plant-demo.yaml"])
def test_in_a_drawing_no_line_crosses_a_word_and_nothing_is_cut_off(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert declared("draw", PLANT.with_name(name)) == 0
    drawing = ElementTree.fromstring(capsys.readouterr().out)
    _, _, width, height = (float(word) for word in drawing.attrib["viewBox"].split())
    boxes = [one.attrib for one in drawing.iter(f"{SVG}rect") if one.get("class") in ("asset", "any")]
    right = {float(box["x"]) + float(box["width"]) for box in boxes}
    assert len(right) == 1
    # Every line starts and ends at the boxes' right edge and runs right of it, in a lane of its own.
    paths = [one.attrib["d"] for one in drawing.iter(f"{SVG}path") if one.get("class") == "hop"]
    places = [float(x) for path in paths for x in re.findall(r"[MH](\d+)", path)]
    assert min(places) == min(right)
    lanes = [re.findall(r"M(\d+) \d+V", path)[0] for path in paths if "V" in path]
    hops = load(PLANT.with_name(name)).hops
    assert len(lanes) == len(set(lanes)) == len(hops)
    # No two lines leave or reach at one height, and rows do not overlap.
    heights = [y for one in drawing.iter(f"{SVG}g") for y in re.findall(rf"[MH]{int(min(right))} (\d+)H", one[1].attrib["d"])]
    heights += [path.split("H")[0].split()[1] for path in paths if path.endswith(f"H{int(min(right)) + 1}")]
    assert len(heights) == len(set(heights)) == sum(len(hop.from_) + len(hop.to) for hop in hops.values())
    tops = sorted((float(box["y"]), float(box["height"])) for box in boxes)
    assert all(top + tall < behind for (top, tall), (behind, _) in pairwise(tops))
    for text in drawing.iter(f"{SVG}text"):
        words = "".join(text.itertext())
        start = 0 if text.get("text-anchor") else float(text.attrib["x"])
        assert start + 7.4 * len(words) < (min(right) if text.get("class") in ("f", None) and not len(text) else width), words
        assert float(text.attrib["y"]) < height


def test_schema_has_the_keys_of_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert declared("schema") == 0
    schema = json.loads(capsys.readouterr().out)
    assert {"who", "from", "to", "limit"} <= set(schema["$defs"]["Hop"]["properties"])
    assert "from_" not in json.dumps(schema)
    assert schema["additionalProperties"] is False


def test_signing_writes_a_signature_and_a_wrong_key_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plant.yaml"
    path.write_bytes(PLANT.read_bytes())
    key = tmp_path / "key.pem"
    key.write_text("not a key")
    assert declared("sign", path, "--key", key) == 2
    assert "expected PEM or OpenSSH" in capsys.readouterr().err
    assert not (tmp_path / "plant.yaml.sig").exists()
