"""The broker that other tests rely on: what was asked of it happens, and what goes wrong is said."""

import re
from pathlib import Path

import pytest

from examples import broker as module
from examples.broker import BrokerError, Cluster, kafka


def test_killed_broker_is_gone_and_serves_again_on_its_own_data(broker: Cluster) -> None:
    assert broker.serves()
    before = (broker.nodes[1].folder / "data" / "meta.properties").read_bytes()
    broker.kill(1)
    assert not broker.serves()
    broker.start(1)
    assert broker.serves()
    assert (broker.nodes[1].folder / "data" / "meta.properties").read_bytes() == before


def test_broker_that_cannot_start_quotes_its_log(tmp_path: Path) -> None:
    wrong = pytest.raises(BrokerError, match=r"the storage of broker 1 cannot be formatted(.|\n)*Invalid value nothing")
    with wrong, kafka(tmp_path / "cluster", options={"log.retention.bytes": "nothing"}):
        pass


def test_broker_without_its_jars_names_what_brings_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "JARS", tmp_path)
    wrong = pytest.raises(BrokerError, match=re.escape(f"{tmp_path} holds no broker; `make setup` brings it"))
    with wrong, kafka(tmp_path / "cluster"):
        pass
