"""What stands before the console: names, origins, tokens, headers, and where it may be opened at all."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from dashboards.console.guard import FORM_BYTES_MAX, host_of
from dashboards.console.serve import ConsoleError, Options, made
from hopwatch.cli import main
from hopwatch.store.reader import reader
from tests.dashboards.console.browser import DECLARATION, Make


def test_a_name_that_is_not_ours_is_refused_though_it_means_this_machine(make: Make) -> None:
    browser = make()
    for host in ("evil.example", "evil.example:8710", "127.0.0.1.evil.example", "", "[::2]", "127.0.0.1@evil.example"):
        assert browser.get("/map", host=host).status_code == 421, host
    for host in ("127.0.0.1:8710", "localhost", "LOCALHOST:80", "[::1]:8710"):
        assert browser.get("/map", host=host).status_code == 200, host
    assert host_of("[::1") == ""


def test_every_answer_bears_the_headers_and_no_page_holds_script_or_style(make: Make) -> None:
    browser = make()
    for path in ("/map", "/declaration", "/coverage", "/access", "/nowhere", "/login"):
        answer = browser.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["cache-control"] == "no-store"
        assert " style=" not in answer.text and "<style" not in answer.text and "onclick" not in answer.text
        assert "//" not in answer.text.replace('xmlns="http://www.w3.org/2000/svg"', ""), "something is fetched from elsewhere"
    assert browser.get("/map", host="evil.example").headers["x-frame-options"] == "DENY"


def test_a_form_of_another_site_and_a_form_without_token_change_nothing(make: Make) -> None:
    browser = make(local_role="admin")
    browser.get("/access")
    form = {"content-type": "application/x-www-form-urlencoded"}
    body = f"token={browser.token}&name=root"
    assert browser.request("POST", "/access/end", content=body, headers=form | {"origin": "https://evil.example"}).status_code == 403
    assert browser.request("POST", "/access/end", content=body, headers=form | {"sec-fetch-site": "cross-site"}).status_code == 403
    assert browser.post("/access/end", token="", name="root").status_code == 403
    assert browser.post("/access/end", token="x" * 43, name="root").status_code == 403
    assert browser.request("POST", "/access/end", content="x" * (FORM_BYTES_MAX + 1), headers=form).status_code == 413
    assert browser.request("DELETE", "/access/end").status_code == 405
    assert browser.request("POST", "/access/end", content=body, headers=form | {"origin": "http://["}).status_code == 403
    length = {"content-length": b"\xb2"}  # A digit, and no number.
    assert browser.request("POST", "/access/end", content=body, headers=form | length).status_code == 413
    assert browser.request("POST", "/access/end", content=body, headers=form | {"origin": "http://127.0.0.1:8710"}).status_code == 303


@pytest.mark.parametrize(
    ("options", "lacking"),
    [
        ({"address": "0.0.0.0:8710"}, "TLS (--tls-cert, --tls-key) and a login"),
        ({"address": "10.1.2.3:8710", "tls_cert": Path("c"), "tls_key": Path("k")}, "needs a login"),
        ({"address": "192.168.1.4:8710", "users": Path("u")}, "needs TLS"),
        ({"address": "127.0.0.1:8710", "tls_cert": Path("c")}, "both --tls-cert and --tls-key"),
        ({"address": "127.0.0.1:8710", "proxies": ["10.0.0.0/8"]}, "--role GROUP=ROLE"),
        ({"address": "console.plant.example:8710"}, "reached from other machines"),
        ({"address": "nonsense"}, "expected ADDRESS:PORT"),
    ],
)
def test_a_console_that_others_reach_without_protection_is_not_opened(options: dict[str, object], lacking: str, day: Path) -> None:
    with pytest.raises(ConsoleError) as refused:
        made(Options([DECLARATION], partial(reader, str(day)), **options))  # type: ignore[arg-type]  # As the table says.
    assert lacking in str(refused.value) and "\n" not in str(refused.value)


def test_the_command_refuses_in_one_line_before_anything_listens(day: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["console", "--store", str(day), "-d", str(DECLARATION), "--address", "0.0.0.0:0"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("hopwatch: console: 0.0.0.0 is reached from other machines") and said.count("\n") == 1
    assert main(["console", "--store", str(day)]) == 2
    assert "a declaration is needed" in capsys.readouterr().err
