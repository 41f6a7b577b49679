"""Incidents that show by who, what and where, each with its benign twin: the labelled scenarios as far as windows of a minute show them.

Not here: S16 and S20, which no window shows, and the half of S17 that is about papers. What each is labelled with is what a person
would call it, by docs/verdicts.md and docs/detectors.md; any of an incident's causes is right, everything else is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from benchmarks.detection.plant import LEARNING_DAYS, MIB, MUCH, PILOT_DAYS, Incident, Minutes, Part, Run, plant

Random = np.random.Generator
NOTEBOOK: Final = "10.4.0.77"
LAPTOP: Final = "10.2.0.200"
MODEL_API: Final = "192.0.2.200"
ELSEWHERE: Final = "198.51.100.200"
LAKE_NAME: Final = "north.lake.example-cloud.eu"
TABLES: Final = tuple(f"t{place}" for place in range(12))
RECIPES: Final = tuple(f"ns=2;s=Recipe/{place}" for place in range(60))
TOPICS: Final = tuple(f"recipe/{place}" for place in range(50))


@dataclass(frozen=True, slots=True)
class Scene:
    """One kind of incident or twin: its windows, given the minute at which it begins."""

    kind: str
    scenario: str
    benign: bool
    parts: Callable[[Run, int, Random], Iterable[Part]]
    causes: frozenset[str] = frozenset()
    ends: tuple[str, ...] = ()
    from_h: float = 7.0
    to_h: float = 19.0
    weekdays: tuple[int, ...] = (0, 1, 2, 3, 4)
    from_day: int = 0


def struck(seed: int, days: int) -> Run:
    """A run with every incident in it, those of amounts and those of here."""
    run = plant(seed, days)
    random = np.random.default_rng([seed, 2])
    clock = run.wall
    for scene in SCENES:
        begins = (clock.day >= max(scene.from_day, min(LEARNING_DAYS, run.days // 2))) & (clock.day < run.days - 1)
        begins &= (clock.hour >= scene.from_h) & (clock.hour < scene.to_h) & np.isin(clock.weekday, scene.weekdays)
        minutes = np.flatnonzero(begins)
        if not len(minutes):
            continue
        first = int(random.choice(minutes))
        parts = tuple(_bounded(part, run.days * 1440) for part in scene.parts(run, first, random))
        _put(run, scene, first, parts)
    _blind(run, random)
    run.incidents.sort(key=lambda one: one.first_minute)
    return run


def _put(run: Run, scene: Scene, first: int, parts: tuple[Part, ...]) -> None:
    last = max(part.first_minute + len(part.amounts) for part in parts) - 1
    added: dict[str, Minutes] = {}
    for part in parts:
        whole = added.setdefault(part.pair, np.zeros(last - first + 1))
        begin = part.first_minute - first
        whole[begin : begin + len(part.amounts)] += part.amounts
    run.incidents.append(
        Incident(scene.kind, tuple(added), first, last, scene.benign, scene.causes, scene.scenario, added, parts, frozenset(scene.ends))
    )


def _bounded(part: Part, minutes: int) -> Part:
    return replace(part, amounts=np.floor(part.amounts[: max(0, minutes - part.first_minute)]))


def _blind(run: Run, random: Random) -> None:
    """S18: an agent is killed for a quarter of an hour, loses one byte in thirty of another day, and restarts as fast as it may."""
    first_day = min(LEARNING_DAYS, run.days // 2)
    days = random.choice(np.arange(first_day, run.days - 1), 3, replace=False)
    begins = [int(day) * 1440 + int(random.integers(0, 1400)) for day in days]
    agent = "t-cell"
    killed, lossy, restarted = begins[0], int(days[1]) * 1440, begins[2]
    for first, last in ((killed, killed + 15), (restarted, restarted)):
        for name in ("collect-tags-1", "collect-tags-2"):
            # What nobody saw is no part of the run: neither we nor the baselines can know of it.
            run.bytes[name][first : last + 1] = 0.0
    run.silent.append((agent, killed, killed + 15))
    run.restarted.add((agent, restarted))
    run.lossy.append((agent, lossy, lossy + 1439))
    causes = frozenset
    about = frozenset({agent})
    cells = ("collect-tags-1", "collect-tags-2")
    run.incidents += [
        Incident("agent killed", cells, killed, killed + 15, False, causes({"agent-silent"}), "S18", ends=about),
        Incident("a thirtieth lost", cells, lossy, lossy + 1439, False, causes({"loss"}), "S18", ends=about),
        Incident("agent restarted", cells, restarted, restarted, True, scenario="S18", ends=about),
    ]


# What windows say


def _pull(
    like: str, mib: tuple[float, float], minutes: tuple[int, int], *objects: str, pair: str = "", after: int = 0, **said: Any
) -> Callable[[Run, int, Random], Iterable[Part]]:  # Any: fields of a flow
    """So many MiB over so many minutes, in windows like those of a pair but for what is said."""

    def make(run: Run, first: int, random: Random) -> Iterable[Part]:
        lasts = int(random.integers(minutes[0], minutes[1] + 1))
        amount = random.uniform(*mib) * MIB * random.dirichlet(np.full(lasts, 5.0))
        yield Part(pair or like, like, first + after, np.asarray(amount), said, objects)

    return make


def _then(*parts: Callable[[Run, int, Random], Iterable[Part]]) -> Callable[[Run, int, Random], Iterable[Part]]:
    """All of them."""
    return lambda run, first, random: [part for make in parts for part in make(run, first, random)]


def _one(like: str, *objects: str, pair: str = "", after: int = 0, size: int = 300, rows: int = 1, **said: Any) -> Any:
    """One small window; Any: fields of a flow, and what ``_pull`` gives."""

    def make(run: Run, first: int, random: Random) -> Iterable[Part]:
        yield Part(pair or like, like, first + after, np.full(1, float(size)), said, objects, rows)

    return make


def _leg(like: str, to: str, mib: tuple[float, float], after: int, **said: Any) -> Callable[[Run, int, Random], Iterable[Part]]:
    """What came in over ``like`` goes on from its client to ``to`` some minutes later, unread, about as large as it came."""

    def make(run: Run, first: int, random: Random) -> Iterable[Part]:
        came = random.uniform(*mib) * MIB
        yield Part(like, like, first, np.asarray(came * random.dirichlet(np.full(4, 9.0))), {}, ("recipe_book",))
        fields = {"operation": "transfer", "protocol": "tls", "depth": "sizes", "account": None, "way": (f"client of {like}", to)} | said
        sent = came * random.uniform(0.95, 1.05) * random.dirichlet(np.full(4, 9.0))
        yield Part(f"{like}|{to}", like, first + after, np.asarray(sent), fields)

    return make


def _past_the_end(run: Run, first: int, random: Random) -> Iterable[Part]:
    """The pilot goes on for a day."""
    yield Part("pilot", "pilot", first, np.asarray(np.tile(np.r_[np.full(3, 0.7 * MIB), np.zeros(57)], 24)))


WRITES: Final[dict[str, Any]] = {"operation": "insert", "opened_by": "source"}
SCENES: Final = (
    Scene("history paged for six hours", "S1", False, _pull("reporting", (90, 100), (350, 360), "history"), MUCH, ("s12", "c12"), to_h=12),
    Scene("the last day of the history", "S1", True, _pull("reporting", (0.5, 1.5), (2, 4), "history"), ends=("s12", "c12")),
    Scene("an account from a laptop", "S2", False, _pull("dashboards", (0.5, 5), (3, 20), pair="dashboards|laptop", application="psql",
          way=("server of dashboards", LAPTOP)), frozenset({"undeclared-account", "shared-account", "new-client"}), ("s4", LAPTOP)),
    Scene("failover to the standby", "S2", True, _pull("dashboards", (0.5, 2), (3, 20), pair="dashboards|standby",
          way=("server of dashboards", "10.2.1.5")), ends=("s4", "c4")),
    Scene("a notebook beside the hops", "S3", False, _pull("mes-works", (5, 60), (5, 40), pair="mes-works|notebook", account="svc_nb",
          application="python/psycopg", way=("server of mes-works", NOTEBOOK)),
          frozenset({"undeclared-hop", "undeclared-account", "new-account"}), ("s5", NOTEBOOK)),
    Scene("the same query from its host", "S3", True, _pull("mes-works", (0.5, 2), (1, 3)), ends=("s5", "c5")),
    Scene("recipes to a model API", "S4", False, _leg("mes-works", MODEL_API, (15, 40), 6),
          frozenset({"undeclared-data", "undeclared-destination", "lineage", "new-destination"}), ("s5", "c5", MODEL_API)),
    Scene("a little more to the lake", "S4", True, _pull("lake-upload", (2, 5), (3, 6)), ends=("s9", "c8"), from_h=3.6, to_h=4.2),
    Scene("the pilot past its end", "S5", False, _past_the_end, frozenset({"expired", "ending"}), ("s16", "c16"),
          from_h=8, to_h=9, from_day=PILOT_DAYS + 1),
    Scene("the pilot reads two more tables", "S5", False, _pull("pilot", (0.2, 0.6), (2, 5), "t", "recipe_1", "recipe_2"),
          frozenset({"undeclared-data"}), ("s16", "c16")),
    Scene("a model writes into the MES", "S6", False, _pull("mes-works", (0.05, 0.5), (1, 5), "plan", pair="ml|mes", account="a3",
          way=("client of ml-features", "server of mes-works"), **WRITES),
          frozenset({"write-back", "undeclared-hop"}), ("s5", "c3")),
    Scene("a model's advice on its topic", "S6", True, _pull("ml-features", (0.02, 0.1), (1, 5), "advice/speed", pair="ml|advice",
          way=("client of ml-features", "server of publish-uns"), operation="publish", opened_by="source", account="a3"),
          ends=("s2", "c3")),
    Scene("pg_dump by the analyst", "S7", False, _pull("analyst", (20, 60), (2, 6), *TABLES, "recipe_1", operation="copy",
          application="pg_dump"), MUCH | {"dump", "unapproved-operation", "undeclared-data"}, ("s13", "c13")),
    Scene("the backup in its window", "S7", True, _pull("backup", (100, 300), (5, 10), operation="copy"), ends=("s11", "c11"),
          from_h=2.2, to_h=3, weekdays=(6,)),
    Scene("a wildcard over the broker", "S10", False, _pull("ml-features", (0.3, 1), (2, 4), *TOPICS),
          frozenset({"undeclared-data", "dump", "broad-account"}), ("s3", "c3")),
    Scene("history of every recipe", "S11", False, _pull("collect-tags-1", (1, 8), (3, 10), *RECIPES, operation="history-read"),
          MUCH | {"undeclared-data", "unapproved-operation", "dump", "broad-account"}, ("s0", "c0")),
    Scene("a vendor browses", "S11", True, _pull("collect-tags-2", (0.01, 0.05), (3, 10), "ns=0;i=85", operation="browse"),
          ends=("s1", "c1"), from_h=8, to_h=12, weekdays=(1,)),
    Scene("an account is made and used", "S12", False, _then(
          _one("mes-works", "account:svc_new", operation="admin", way=("client of mes-works", "server of mes-works"),
               opened_by="source", columns=["create"]),
          _one("mes-works", "account:svc_new", operation="admin", way=("client of mes-works", "server of mes-works"),
               opened_by="source", columns=["grant:pg_read_all_data"], after=1),
          _pull("mes-works", (0.5, 3), (2, 5), pair="mes-works|new", account="svc_new", after=4)),
          frozenset({"new-account", "undeclared-account"}), ("s5", "c5")),
    Scene("an account changes its password", "S12", True, _one("mes-works", "account:a5", operation="admin", opened_by="source",
          way=("client of mes-works", "server of mes-works"), columns=["password"]), ends=("s5", "c5")),
    Scene("the vendor's data in another region", "S13", False, _pull("vendor", (0.5, 3), (2, 6), pair="vendor|elsewhere",
          operation="transfer", protocol="tls", depth="sizes", account=None, opened_by="source", way=("client of vendor", ELSEWHERE)),
          frozenset({"undeclared-destination", "new-country", "new-destination"}), ("c14", ELSEWHERE)),
    Scene("the lake gets another address", "S13", True, _pull("lake-upload", (0.5, 2), (2, 6), lake="203.0.113.9"), ends=("s9", "c8"),
          from_h=3.6, to_h=4.2),
    Scene("names of operators", "S14", False, _pull("extract-quality", (0.2, 1), (1, 3), columns=["lot", "operator_name"]),
          frozenset({"undeclared-data"}), ("s8", "c8"), from_h=1.6, to_h=2.2),
    Scene("pseudonyms of operators", "S14", True, _pull("extract-quality", (0.2, 1), (1, 3), columns=["lot", "operator_id"]),
          ends=("s8", "c8"), from_h=1.6, to_h=2.2),
    Scene("a server without TLS", "S15", False, _pull("mes-works", (0.2, 1), (3, 9),
          protection={"transport": "none", "authentication": "scram-sha-256"}), frozenset({"under-protected"}), ("s5", "c5")),
    Scene("TLS taken up again", "S15", True, _pull("mes-works", (0.2, 1), (3, 9),
          protection={"transport": "tls1.3", "authentication": None}), ends=("s5", "c5")),
    Scene("one row of the decoy", "S19", False, _one("mes-works", "recipe_master_2019"), frozenset({"decoy"}), ("s5", "c5")),
    Scene("a listing of the schema", "S19", True, _one("mes-works", "pg_catalog.pg_class", rows=200, size=9_000), ends=("s5", "c5")),
)  # fmt: skip
"""Incidents of docs/../scenarios by number, each followed by its twin."""
