#!/usr/bin/env bash
# Ask AsyncAPI's own parser about docs/asyncapi.json: scripts/asyncapi.sh (Node 18 or newer, npm; the parser goes to build/asyncapi).
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build/asyncapi
npm install --silent --no-audit --no-fund --prefix build/asyncapi @asyncapi/parser@3.6.3
cat > build/asyncapi/check.mjs <<'JS'
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";
const { document, diagnostics } = await new Parser().parse(readFileSync("docs/asyncapi.json", "utf8"));
const errors = diagnostics.filter((one) => one.severity === 0);
for (const one of errors) console.log(one.path.join("/"), one.message);
console.log(document ? `${document.channels().all().length} channels, no error` : `${errors.length} errors`);
process.exit(document && errors.length === 0 ? 0 : 1);
JS
node build/asyncapi/check.mjs
