"""Makes recordings of captured conversations: who said which bytes, in order, each byte once.

usage: extract.py TRACES     (needs tshark; TRACES is a folder with `tds/` as docs/conformance.md describes it)

The captures are Apache-2.0: three of elastic/beats (packetbeat, SQL Server 2022 with its login encrypted) and one of arkime (a login by
NTLM, made by a program). Nothing in them is secret: the passwords went through TLS, the proofs of NTLM are filled with letters.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

OUT = pathlib.Path(__file__).parent
BEATS = "0x5CE/beats packetbeat/tests/system/pcaps @ 9791e8ecbfb6 (Apache-2.0), SQL Server 2022"
CAPTURES = {
    "encrypted-login": ("packetbeat__mssql_login.pcap", 0, BEATS, {}),
    "encrypted-login-insert": ("packetbeat__mssql_login_and_insert.pcap", 0, BEATS, {"insert": 1}),
    "encrypted-login-select": ("packetbeat__mssql_login_and_select.pcap", 0, BEATS, {"select": 1}),
    "ntlm": ("arkime__ntlm_synthetic.pcap", 13, "arkime/arkime tests/pcap @ 2d2f3678796b (Apache-2.0), synthetic", {}),
}


def said(capture: pathlib.Path, stream: int) -> list[list[str]]:
    fields = ["tcp.srcport", "tcp.seq", "tcp.payload"]
    command = ["tshark", "-r", str(capture), "-Y", f"tcp.stream=={stream} && tcp.len>0", "-T", "fields"]
    lines = subprocess.run(
        [*command, *(word for field in fields for word in ("-e", field))], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    script: list[list[str]] = []
    seen: dict[str, int] = {}
    for port, number, payload in (line.split("\t") for line in lines):
        data, start = bytes.fromhex(payload), int(number)
        # Each side's segments come in order here; a copy of one is passed over.
        fresh = data[max(0, seen.get(port, start) - start) :]
        if fresh:
            script.append(["server" if port == "1433" else "client", fresh.hex()])
            seen[port] = start + len(data)
    return script


def main() -> None:
    folder = pathlib.Path(sys.argv[1]) / "tds"
    for name, (capture, stream, provenance, ledger) in CAPTURES.items():
        script = said(folder / capture, stream)
        of = {"scenario": name, "provenance": provenance, "ledger": ledger, "secrets": ["orangea"] if ledger else [], "script": script}
        pieces = ",\n".join("  " + json.dumps(piece) for piece in of.pop("script"))
        text = json.dumps(of, indent=1).removesuffix("\n}") + f',\n "script": [\n{pieces}\n ]\n}}\n'
        (OUT / f"{name}.json").write_text(text)


if __name__ == "__main__":
    main()
