"""The dashboards' JSON as Grafana's own types see it: `@grafana/schema` and the TypeScript compiler."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.panels import loaded, panels

BUILD = Path(__file__).parents[2] / "build" / "grafana-schema"
OPTIONS = {
    "nodeGraph": "nodegraph/panelcfg/x/NodeGraphPanelCfg_types.gen.js", "table": "table/panelcfg/x/TablePanelCfg_types.gen.js",
    "timeseries": "timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen.js", "stat": "stat/panelcfg/x/StatPanelCfg_types.gen.js",
    "state-timeline": "statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen.js",
}  # fmt: skip
COMPILER = ("--noEmit", "--strict", "--skipLibCheck", "--moduleResolution", "bundler", "--module", "esnext", "--target", "es2022")

# JSON has the values of an enumeration, not its members.
PLAIN = """type Plain<T> = T extends string ? `${T}` : T extends (infer One)[] ? Plain<One>[]
    : T extends object ? { [Key in keyof T]: Plain<T[Key]> } : T;"""

Dashboards = list[dict[str, Any]]  # Any: JSON values.


def wrong(dashboards: Dashboards, folder: Path) -> list[str]:
    """What the compiler has to say."""
    compiler = BUILD / "node_modules" / "typescript" / "bin" / "tsc"
    node = shutil.which("node")
    assert node and compiler.exists(), "the compiler is missing; `scripts/setup.sh long` brings it"
    lines = ["import type { Dashboard } from '@grafana/schema';", PLAIN]
    for place, (kind, module) in enumerate(OPTIONS.items()):
        lines.append(f"import type {{ Options as Options{place} }} from '@grafana/schema/dist/esm/raw/composable/{module}';")
        of_kind = [panel.get("options", {}) for dashboard in dashboards for panel in panels(dashboard) if panel["type"] == kind]
        lines.append(f"export const options{place}: Partial<Plain<Options{place}>>[] = {json.dumps(of_kind)};")
    lines += [f"export const dashboard{n}: Plain<Dashboard> = {json.dumps(said, indent=1)};" for n, said in enumerate(dashboards)]
    (folder / "check.ts").write_text("\n".join(lines))
    (folder / "node_modules").symlink_to(BUILD / "node_modules")
    done = subprocess.run([node, compiler, *COMPILER, "check.ts"], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()


def in_a_panel(dashboards: Dashboards) -> None:
    dashboards[0]["panels"][0]["gridPos"]["w"] = "wide"


def in_options(dashboards: Dashboards) -> None:
    next(panel for panel in panels(dashboards[0]) if panel["type"] == "timeseries")["options"]["legend"]["placement"] = "above"


def in_a_variable(dashboards: Dashboards) -> None:
    dashboards[0]["templating"]["list"][0]["refresh"] = "often"


@pytest.mark.long
def test_the_dashboards_are_of_grafanas_types(tmp_path: Path) -> None:
    assert wrong(loaded(), tmp_path) == []


@pytest.mark.long
@pytest.mark.parametrize("broken", [in_a_panel, in_options, in_a_variable])
def test_what_is_not_of_grafanas_types_is_found(broken: Callable[[Dashboards], None], tmp_path: Path) -> None:
    dashboards = loaded()
    broken(dashboards)
    assert len(wrong(dashboards, tmp_path)) >= 1
