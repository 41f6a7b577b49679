"""Print what `requirements.lock` is compiled from: every dependency pyproject.toml names, the command's and the developers'.

Renew the lock with Debian 12's Python (3.11, the oldest supported):
    python scripts/lock.py > /tmp/requirements.in && pip-compile --generate-hashes --strip-extras --allow-unsafe \\
        --no-annotate --no-header --no-emit-find-links -o requirements.lock /tmp/requirements.in
"""

import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
wanted = set(project["dependencies"]).union(*project["optional-dependencies"].values())
print("\n".join(sorted(name for name in wanted if not name.startswith("hopwatch["))))
