"""Settings come from flags, variables and the file, in this order, and nothing misspelt is ignored."""

import os
from pathlib import Path

import pytest

from hopwatch.config import EVERY, AgentSettings, ConfigError, ScaleSettings, chosen, settings


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("HOPWATCH_")]:
        monkeypatch.delenv(name)


def test_flag_beats_variable_beats_file_beats_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings({}).store == "hopwatch.db"
    Path("hopwatch.toml").write_text('store = "file.db"\n')
    assert settings({"store": None}).store == "file.db"
    monkeypatch.setenv("HOPWATCH_STORE", "variable.db")
    assert settings({"store": None}).store == "variable.db"
    assert settings({"store": "flag.db"}).store == "flag.db"


def test_variable_holds_a_list_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOPWATCH_INTERFACES", "eth1, eth2")
    monkeypatch.setenv("HOPWATCH_VLANS_EQUAL", "120=220, vni:7=vni:9")
    assert settings({}).interfaces == ["eth1", "eth2"]
    assert settings({}).vlans_equal == ["120=220", "vni:7=vni:9"]
    assert settings({"vlans_equal": ["1=2"]}).vlans_equal == ["1=2"]


def test_unknown_key_of_the_file_names_the_nearest() -> None:
    Path("hopwatch.toml").write_text('inteface = ["eth1"]\n')
    with pytest.raises(ConfigError, match=r"hopwatch\.toml: unknown key inteface: did you mean interfaces\?"):
        settings({})


def test_unknown_variable_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOPWATCH_STOR", "x")
    with pytest.raises(ConfigError, match=r"unknown key HOPWATCH_STOR: did you mean HOPWATCH_STORE\?"):
        settings({})


def test_wrong_value_names_where_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("hopwatch.toml").write_text("snaplen = 5\n")
    with pytest.raises(ConfigError, match=r"^hopwatch\.toml snaplen: .*greater than or equal to 96, got 5$"):
        settings({})
    monkeypatch.setenv("HOPWATCH_SNAPLEN", "six")
    with pytest.raises(ConfigError, match=r"^HOPWATCH_SNAPLEN: .*got 'six'$"):
        settings({})
    with pytest.raises(ConfigError, match=r"^--snaplen: .*got 7$"):
        settings({"snaplen": 7})


def test_a_program_that_captures_nothing_is_told_nothing_of_capturing() -> None:
    """What is wrong with a key of another program is that program's to say."""
    Path("hopwatch.toml").write_text("snaplen = 5\nduration = 3.5\n")
    assert chosen(ScaleSettings, {}).duration == 3.5
    with pytest.raises(ConfigError, match=r"^hopwatch\.toml snaplen: "):
        chosen(AgentSettings, {})


def test_the_database_password_comes_from_a_file_and_stands_in_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "an earlier one")
    (tmp_path / "secret").write_text("of-the-file\n")
    monkeypatch.setenv("HOPWATCH_POSTGRES_PASSWORD_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("HOPWATCH_POSTGRES", "postgresql://hopwatch@db/hopwatch")
    for model in EVERY:
        os.environ["PGPASSWORD"] = "an earlier one"
        assert "of-the-file" not in repr(chosen(model, {}))
        assert os.environ["PGPASSWORD"] == "of-the-file"
    (tmp_path / "secret").write_text("\n")
    with pytest.raises(ConfigError, match=r"^postgres_password_file .*secret: holds 1 bytes, expected 1 to 4096$"):
        settings({})


def test_file_that_is_named_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file"):
        settings({}, Path("nowhere.toml"))
    Path("broken.toml").write_text("store = \n")
    monkeypatch.setenv("HOPWATCH_CONFIG", "broken.toml")
    with pytest.raises(ConfigError, match=r"broken\.toml: "):
        settings({})
