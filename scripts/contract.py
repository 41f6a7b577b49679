"""Write docs/asyncapi.json and docs/schemas/, which are computed from the models and the table of topics. Run it after changing either."""

import json
import tomllib
from pathlib import Path

from hopwatch.bus.contract import MODELS, asyncapi, kind_schema

ROOT = Path(__file__).resolve().parents[1]


def documents() -> dict[Path, str]:
    """What belongs into each file."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    said = {ROOT / "docs" / "asyncapi.json": asyncapi(version)}
    said |= {ROOT / "docs" / "schemas" / f"{kind}.schema.json": kind_schema(kind) for kind in MODELS}
    return {path: json.dumps(document, indent=1, ensure_ascii=False) + "\n" for path, document in said.items()}


if __name__ == "__main__":
    for path, text in documents().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))
