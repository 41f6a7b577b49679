"""Files of the user that say where an address is."""

from pathlib import Path

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from hopwatch.config import ConfigError
from hopwatch.located import Located


def written(path: Path, **said: dict[str, object]) -> Path:
    """A file of nets in the MaxMind DB format, written by another implementation than the one that reads it."""
    writer = MMDBWriter(6, "Test", ipv4_compatible=True)
    for net, record in said.items():
        writer.insert_network(IPSet([net]), record)
    writer.to_db_file(str(path))
    return path


def test_country_and_operator_come_from_the_files_that_know_them(tmp_path: Path) -> None:
    countries = written(tmp_path / "c.mmdb", **{"192.0.32.0/24": {"country": {"iso_code": "DE"}, "registered_country": {"iso_code": "US"}}})
    operators = written(
        tmp_path / "o.mmdb", **{"192.0.32.0/25": {"autonomous_system_number": 64500, "autonomous_system_organization": "CLOUD"}}
    )
    located = Located([countries, operators])
    assert located("192.0.32.8") == ("DE", "AS64500 CLOUD")
    assert located("192.0.32.200") == ("DE", "")
    assert located("198.51.100.1") == located("no address") == located("2001:db8::1") == ("", "")
    assert Located([])("192.0.32.8") == ("", "")


def test_a_file_that_is_none_is_named_in_one_line(tmp_path: Path) -> None:
    for name, content in (("missing.mmdb", None), ("text.mmdb", b"country,DE"), ("cut.mmdb", b"")):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ConfigError) as said:
            Located([path])
        assert str(said.value).startswith(f"{path}: ")
        assert "\n" not in str(said.value)


def test_a_damaged_part_of_a_file_says_nothing_and_stops_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "c.mmdb", **{"192.0.32.0/24": {"country": {"iso_code": "DE"}}})
    whole = path.read_bytes()
    tree_end = whole.index(b"country") - 4
    path.write_bytes(whole[:tree_end] + bytes(len(b"country") + 4) + whole[tree_end + 11 :])
    assert Located([path])("192.0.32.8") == ("", "")
