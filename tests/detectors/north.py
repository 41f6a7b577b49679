"""Flows of the plant-north example, as the decoders say them; every test changes the one thing it is about."""

from hashlib import blake2b
from pathlib import Path
from typing import Any

from detectors.judgement import Judgement
from detectors.verdict import VerdictDetector
from hopwatch.declared.load import loads
from hopwatch.declared.model import Architecture
from hopwatch.events import Flow, time_ns, time_text

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "examples" / "plant-north.yaml").read_text(encoding="utf-8")

# 02:00 plant time (CEST) on a Tuesday: inside the nightly window of extract-quality.
NIGHT = "2026-04-07T00:00:00Z"
UPLOAD = "2026-04-07T01:30:00Z"
NOON = "2026-04-07T10:00:00Z"

MES_DB, MES_APP, MW, UNS, ML, OPC, HISTORIAN = (
    ("10.20.1.21", 5432), ("10.20.1.20", 50001), ("10.30.0.20", 50002), ("10.30.0.10", 8883), ("10.40.8.40", 50003),
    ("10.10.1.10", 4840), ("10.20.1.30", 50004),
)  # fmt: skip
LAKE = ("203.0.113.5", 443)
LAKE_NAME = "plant-north.lake.example-cloud.eu"


def architecture(**changes: tuple[str, str]) -> Architecture:
    """The example, with texts replaced: ``architecture(a=("old", "new"))``."""
    text = TEXT
    for old, new in changes.values():
        assert old in text, old
        text = text.replace(old, new)
    return loads(text)


def detector(**options: Any) -> VerdictDetector:  # Any: the detector's own options
    return VerdictDetector(options.pop("architecture", None) or architecture(), **options)


def end(place: tuple[str, int], *names: tuple[str, str]) -> dict[str, Any]:
    return {"address": place[0], "port": place[1], "names": [{"name": name, "by": by} for name, by in names]}


def objects(*names: str, columns: tuple[str, ...] = (), **counts: int) -> dict[str, Any]:
    return {"names": list(names), "columns": list(columns), **counts}


def flow(**said: Any) -> Flow:  # Any: fields of a flow
    """A window; ``at`` is its start, ``n`` its number, and the counts of one object set are those of the window."""
    at = said.pop("at", NIGHT)
    n = said.pop("n", 0)
    key = (
        said.pop("key", None)
        or f"{said.get('source')}{said.get('destination')}{said.get('account')}{said.get('operation')}{said.get('agent')}"
    )
    flow_id = blake2b(key.encode(), digest_size=16).hexdigest()
    sets = said.get("objects", [])
    for unit in ("rows", "values", "messages", "bytes"):
        said.setdefault(unit, sum(part.get(unit, 0) for part in sets))
    base: dict[str, Any] = {
        "event_id": blake2b(f"{flow_id}{n}".encode(), digest_size=16).hexdigest(),
        "plant": "north", "agent": "tap-idmz",
        "connection": blake2b(str(said.pop("connection", key)).encode(), digest_size=16).hexdigest(),
        "flow_id": flow_id, "sequence": n, "start": at, "end": time_text(time_ns(at) + 10**9), "opened_by": "destination",
        "protocol": "postgresql", "depth": "decoded", "packets": 4,
        "protection": {"transport": "tls1.3", "authentication": "scram-sha-256"},
    }  # fmt: skip
    return Flow.model_validate(base | said)


def extract(**said: Any) -> Flow:  # Any: fields of a flow
    """A declared window of extract-quality."""
    return flow(
        **{
            "source": end(MES_DB), "destination": end(MW), "account": "svc_mw", "application": "quality-extract/2.1", "operation": "select",
            "objects": [objects("quality.inspection", columns=("lot", "result"), rows=100, bytes=9000)],
        }
        | said
    )  # fmt: skip


def upload(**said: Any) -> Flow:  # Any: fields of a flow
    """A declared upload to the lake: sizes and a confirmed name only."""
    return flow(
        **{
            "source": end(MW), "destination": end(LAKE, (LAKE_NAME, "sni"), (LAKE_NAME, "dns")), "opened_by": "source", "at": UPLOAD,
            "agent": "tap-egress", "protocol": "tls", "operation": "transfer", "depth": "sizes", "bytes": 1_000_000, "bytes_back": 2_000,
            "protection": {"transport": "tls1.3"}, "completeness": {"state": "encrypted"},
        }
        | said
    )  # fmt: skip


def publish(**said: Any) -> Flow:  # Any: fields of a flow
    """A declared publication of an edge device."""
    return flow(
        **{
            "source": end(("10.10.1.10", 50005)), "destination": end(UNS), "opened_by": "source", "protocol": "mqtt",
            "account": "certificate:CN=edge-l1", "operation": "publish", "at": NOON,
            "objects": [objects("north/line1/telemetry/temp", messages=10, bytes=900)],
            "protection": {"transport": "tls1.3", "authentication": "certificate"},
        }
        | said
    )  # fmt: skip


def collect(**said: Any) -> Flow:  # Any: fields of a flow
    """A declared OPC UA subscription of the historian."""
    return flow(
        **{
            "source": end(OPC), "destination": end(HISTORIAN), "protocol": "opcua", "account": "certificate:CN=svc_hist", "at": NOON,
            "operation": "subscribe", "objects": [objects("ns=2;s=Line1/Telemetry/Temp", values=50, messages=5, bytes=4000)],
            "protection": {"transport": "opcua-signandencrypt", "policy": "Basic256Sha256", "authentication": "certificate"},
        }
        | said
    )  # fmt: skip


def mes(**said: Any) -> Flow:  # Any: fields of a flow
    """A declared read of the MES itself."""
    return flow(
        **{
            "source": end(MES_DB), "destination": end(MES_APP), "account": "svc_mes", "operation": "select", "at": NOON,
            "objects": [objects("mes.genealogy", columns=("*",), rows=10, bytes=900)],
        }
        | said
    )  # fmt: skip


def judge(window: Flow, **options: Any) -> Judgement:  # Any: the detector's own options
    """The judgement of one window by a detector that has seen nothing else."""
    (judgement,) = detector(**options).observe(window)
    return judgement
