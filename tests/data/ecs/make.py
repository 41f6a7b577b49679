"""How fields-9.4.0.json was made: field names and types of the field sets that an alert uses, from the types of npm's @elastic/ecs.

npm pack @elastic/ecs@9.4.0 && tar xzf elastic-ecs-9.4.0.tgz && python make.py package/generated > fields-9.4.0.json
"""

import json
import re
import sys
from pathlib import Path

SETS = ("base", "client", "destination", "ecs", "event", "network", "observer", "related", "rule", "source", "threat", "user")
fields: dict[str, str] = {}
for name in SETS:
    path: list[str] = [] if name == "base" else [name]
    depth = 0
    text = re.sub(r"/\*.*?\*/", "", (Path(sys.argv[1]) / f"{name}.ts").read_text(encoding="utf-8"), flags=re.DOTALL)
    for line in map(str.strip, text.splitlines()):
        if found := re.fullmatch(r"['\"]?([@\w]+)['\"]?\??: \{", line):
            path.append(found[1])
        elif found := re.fullmatch(r"['\"]?([@\w.]+)['\"]?\??: (.+);", line):
            fields[".".join([*path, found[1]])] = found[2]
        elif line.startswith("}") and len(path) > (name != "base"):
            path.pop()
print(json.dumps({"ecs": "9.4.0", "from": "npm @elastic/ecs 9.4.0, Apache-2.0", "fields": fields}, indent=1, sort_keys=True))
