"""One plant of real servers for all integration tests, watched live while real clients work on it."""

import random
import time
from collections.abc import Iterator

import pytest

from examples.demo import DECLARATION, SETTLE_S
from examples.plant import servers, story
from examples.plant.day import Plant, declaration_for, plant
from examples.plant.ledger import Ledger
from examples.plant.network import loopback_capture_works, namespaces_work
from examples.plant.record import recording
from examples.plant.watched import stored_flows, watching
from tests.integration.ways import WAYS, Recorded, Watched

SEED = 20_260_407


@pytest.fixture(scope="session")
def namespaces() -> bool:
    """Whether hosts are network namespaces, else addresses of `lo`; a machine that has neither fails here."""
    work = namespaces_work()
    if not work and not loopback_capture_works():
        pytest.fail("real interfaces need root: neither network namespaces nor a packet socket on lo can be opened")
    return work


@pytest.fixture(scope="session")
def running(namespaces: bool) -> Iterator[Plant]:
    """The plant; a machine that cannot run it fails here and says what is missing, since nothing is ever skipped."""
    missing = servers.missing_servers()
    if missing:
        pytest.fail(f"not installed: {', '.join(missing)}; `make setup` as root installs them")
    print(f"seed {SEED}")
    with plant(random.Random(SEED), namespaces=namespaces, rows_max=3000) as started:
        yield started


@pytest.fixture(scope="session")
def recorded(running: Plant, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """The demo's approved work, recorded beside the tap."""
    folder = tmp_path_factory.mktemp("recorded")
    capture = folder / "approved.pcap.gz"
    before = len(running.ledger.entries)
    with recording(running.network, capture):
        story.approved_work(running, random.Random(SEED), lambda text: None)
    declaration = declaration_for(running.network, DECLARATION, running.ports, folder)
    return Recorded(capture, declaration, Ledger(running.ledger.entries[before:]))


@pytest.fixture(scope="session")
def watched(running: Plant, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """Every way of moving data, once, under a live `hopwatch watch`."""
    folder = tmp_path_factory.mktemp("watched")
    store = folder / "store.db"
    declaration = declaration_for(running.network, DECLARATION, running.ports, folder)
    with watching(running.network, declaration, store) as watch:
        counted = {name: way(running) for name, way in WAYS.items()}
        time.sleep(SETTLE_S)
        code = watch.stop()
    return Watched(counted, stored_flows(store), watch, code)
