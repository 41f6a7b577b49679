"""Who comes in, who may do what, and who reads which names."""

from __future__ import annotations

import ast
import re
import stat
from html import escape
from pathlib import Path

import markupsafe
import pytest

from dashboards.console import users
from dashboards.console.access import RIGHTS, ROLES, without_persons
from dashboards.console.app import ADDRESSES
from dashboards.console.sessions import SESSIONS_MAX, STRANGERS_MAX
from dashboards.console.users import FAILURES_FREE, WAIT_S_MAX, Throttle, UsersError, put, read, remove
from hopwatch.cli import main
from tests.dashboards.console.browser import Browser, Clock, Make

SECRET = "correct horse battery"


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user of each role, all with the same password: hashes are slow, and are meant to be."""
    path = tmp_path_factory.mktemp("users") / "users"
    for role in ROLES:
        put(path, f"one.{role}", role, SECRET)
    return path


def enter(browser: Browser, name: str, password: str = SECRET, to: str = "/map") -> int:
    browser.get(f"/login?next={to}")
    return browser.post("/login", name=name, password=password, next=to).status_code


def test_nobody_sees_a_page_before_saying_who_they_are(make: Make, people: Path, own: Path) -> None:
    browser = make(users=people, store=own, alerts=True)
    for method, address, right, _ in ADDRESSES:
        path = address.format(key="0" * 16, id="A-00000000")
        answer = browser.get(path) if method == "GET" else browser.post(path, reason="x")
        if right is not None:
            assert answer.status_code in (303, 401) and "svc_" not in answer.text, path
            assert method == "POST" or answer.headers["location"].startswith("/login?next="), path
    assert enter(browser, "one.analyst", to="/coverage") == 303
    assert browser.get("/coverage").status_code == 200


@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_do_what_the_table_says_and_nothing_else(make: Make, people: Path, own: Path, role: str) -> None:
    browser = make(users=people, store=own, alerts=True)
    assert enter(browser, f"one.{role}") == 303
    alert = re.search(r"/alerts/(A-[0-9a-f]+)", browser.get("/alerts").text)
    assert alert is not None
    for method, address, right, _ in ADDRESSES:
        if right in (None, "look"):
            continue
        path = address.format(key="0" * 16, id=alert[1])
        browser.get("/access")
        answer = browser.get(path) if method == "GET" else browser.post(path, action="comment", reason="x", name="nobody")
        assert (answer.status_code == 403) == (right not in RIGHTS[role]), (path, answer.status_code)  # type: ignore[index]  # One of ROLES.
    page = browser.get("/access").text
    assert ("At the door" in page) == ("audit" in RIGHTS[role])  # type: ignore[index]
    if "audit" not in RIGHTS[role]:  # type: ignore[index]
        denied = [entry for entry in browser.console.entries if entry.what == "denied"]
        assert denied and all(entry.who == f"one.{role}" for entry in denied)


def test_a_viewer_reads_a_person_where_an_analyst_reads_pseudonyms(make: Make, people: Path, own: Path) -> None:
    pages = ["/map", "/alerts", "/declaration", "/coverage", "/declaration/drawing.svg"]
    analyst = make(users=people, store=own, alerts=True)
    enter(analyst, "one.analyst")
    alerts = re.findall(r"/alerts/A-[0-9a-f]+", analyst.get("/alerts").text)
    bands = re.findall(r"/map/band/[0-9a-f]+", analyst.get("/map").text)
    assert any("person:" in analyst.get(path).text for path in pages)
    viewer = make(users=people, store=own, alerts=True)
    enter(viewer, "one.viewer")
    for path in [*pages, *dict.fromkeys(alerts + bands)]:
        text = viewer.get(path).text
        assert "person:" not in text and "tmp_export" not in text, path
    assert "a person" in viewer.get("/map").text and "svc_mw" in viewer.get("/map").text


def test_declared_persons_are_hidden_as_words_and_links_stay_whole() -> None:
    page = b'<a href="/map" class="map" title="of map">map: h.keller, h.kellerman</a><p>account:tmp1 given to tmp1</p>'
    hidden = without_persons(page, ["map", "h.keller"]).decode()
    assert hidden.startswith('<a href="/map" class="map" title="of a person">a person: a person, h.kellerman</a>')
    assert hidden.endswith("<p>account:a person given to a person</p>")
    name = "PLANT\\o'brien & sons"
    for spelt in (escape(name), markupsafe.escape(name)):
        assert without_persons(f"<p>{spelt}</p>".encode(), [name]) == b"<p>a person</p>"


def test_after_five_failures_each_further_attempt_waits_longer(make: Make, people: Path, clock: Clock) -> None:
    browser = make(users=people)
    browser.get("/login")
    codes = [enter(browser, "one.admin", "wrong password") for _ in range(FAILURES_FREE)]
    assert codes == [401] * FAILURES_FREE
    assert enter(browser, "one.admin") == 429, "the right password has to wait, too"
    clock.now_s += 1.1
    assert enter(browser, "one.admin", "wrong password") == 401
    clock.now_s += 1.1
    assert enter(browser, "one.admin") == 429
    clock.now_s += 1.0
    assert enter(browser, "one.admin") == 303
    said = [entry.what for entry in browser.console.entries]
    assert said.count("wrong-password") == 6 and said.count("throttled") == 2 and said[-1] == "came-in"
    assert not any(SECRET in str(entry) or "wrong password" in str(entry) for entry in browser.console.entries)


def test_attempts_without_end_are_throttled_without_end(clock: Clock) -> None:
    throttle = Throttle(clock)
    for _ in range(2_000):
        throttle.failed("name one.admin")
        clock.now_s += WAIT_S_MAX
    clock.now_s -= 1
    assert throttle.wait_s("name one.admin") == pytest.approx(1.0)


def test_a_session_ends_when_idle_when_old_and_is_not_kept_alive_by_a_page_that_renews_itself(
    make: Make, people: Path, clock: Clock
) -> None:
    browser = make(users=people)
    enter(browser, "one.viewer")
    for _ in range(4):
        clock.now_s += 600
        code = browser.get("/map", x_hopwatch_part="live").status_code
    assert code == 401
    enter(browser, "one.viewer")
    for _ in range(12 * 3):
        clock.now_s += 1190
        code = browser.get("/map").status_code
    assert code == 200
    clock.now_s += 600
    assert browser.get("/map").status_code == 303


def test_a_new_session_has_a_new_name_and_logging_out_ends_it(make: Make, people: Path) -> None:
    browser = make(users=people)
    browser.get("/login")
    before = browser.cookies.get("hopwatch")
    enter(browser, "one.viewer")
    cookie = browser.cookies.get("hopwatch")
    assert cookie and cookie != before
    browser.get("/map")
    assert browser.post("/logout").status_code == 303
    browser.cookies.clear()
    browser.cookies.set("hopwatch", str(cookie))
    assert browser.get("/map").status_code == 303


def test_cookies_are_bound_to_the_host_and_out_of_reach_of_script(make: Make, people: Path) -> None:
    browser = make(users=people)
    browser.get("/login")
    browser.get("/login")
    said = browser.post("/login", name="one.viewer", password=SECRET).headers["set-cookie"]
    assert "HttpOnly" in said and "SameSite=lax" in said and "Path=/" in said


def test_who_is_removed_or_changed_is_out_with_the_next_request(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "users"
    put(path, "short.stay", "admin", SECRET)
    browser = make(users=path)
    enter(browser, "short.stay")
    assert browser.get("/map").status_code == 200
    put(path, "short.stay", "viewer", SECRET)
    assert browser.get("/map").status_code == 303
    enter(browser, "short.stay")
    assert browser.get("/map").status_code == 200
    remove(path, "short.stay")
    assert browser.get("/map").status_code == 303


def test_an_admin_ends_the_sessions_of_another(make: Make, people: Path) -> None:
    admin = make(users=people)
    enter(admin, "one.admin")
    other = Browser(admin._transport.app, console=admin.console)
    enter(other, "one.viewer")
    assert other.get("/map").status_code == 200
    assert "End sessions of one.viewer" in admin.get("/access").text
    assert admin.post("/access/end", name="one.viewer").status_code == 303
    assert other.get("/map").status_code == 303


def test_a_proxy_is_believed_from_its_own_address_and_nobody_else(make: Make) -> None:
    options = {"proxies": ["10.1.2.0/24"], "roles": {"soc": "analyst", "leads": "admin"}}
    proxied = make(client="10.1.2.3", **options)
    headers = {"x_forwarded_user": "a.ruiz", "x_forwarded_groups": "guests, soc"}
    assert "a.ruiz" in proxied.get("/map", **headers).text and "analyst" in proxied.get("/map", **headers).text
    assert proxied.get("/map", x_forwarded_user="a.ruiz", x_forwarded_groups="guests").status_code == 303
    assert proxied.get("/map").status_code == 303
    assert proxied.get("/map", x_forwarded_user="a b<", x_forwarded_groups="soc").status_code == 303
    assert make(client="10.9.9.9", **options).get("/map", **headers).status_code == 303


def test_onward_leads_to_our_own_pages_only(make: Make, people: Path) -> None:
    for to in ("//evil.example/x", "https://evil.example", "/\\evil.example", "/alerts?state=new"):
        browser = make(users=people)
        browser.get("/login")
        at = browser.post("/login", name="one.viewer", password=SECRET, next=to).headers["location"]
        assert at == (to if to == "/alerts?state=new" else "/")


def test_passwords_are_hashed_as_rfc_9106_recommends() -> None:
    shipped = ast.parse(Path(users.__file__).read_text())
    (made,) = (one.value for one in ast.walk(shipped) if isinstance(one, ast.AnnAssign) and ast.unparse(one.target) == "_HASHER")
    assert made is not None and ast.unparse(made) == "PasswordHasher(time_cost=3, memory_cost=65536, parallelism=4)"


def test_sessions_are_bounded_and_the_longest_unused_ends(make: Make) -> None:
    browser = make()
    sessions = browser.console.sessions
    first, _ = sessions.open(browser.console.entrance.local)
    for _ in range(SESSIONS_MAX):
        sessions.open(browser.console.entrance.local)
    assert sessions.find(first) is None and sessions.evicted_total == 1


def test_strangers_however_many_end_nobodys_session(make: Make, people: Path) -> None:
    """Whoever asks without a cookie is given a session, for the form's token; a thousand of them must put nobody out."""
    analyst = make(users=people)
    other = Browser(analyst._transport.app, console=analyst.console)
    enter(analyst, "one.analyst")
    sessions = analyst.console.sessions
    first, _ = sessions.open(None)
    for _ in range(STRANGERS_MAX):
        sessions.open(None)
    assert analyst.get("/map").status_code == 200
    assert sessions.find(first) is None and sessions.evicted_total == 1
    assert enter(other, "one.viewer") == 303, "and others still come in"


def test_the_file_of_users_is_private_whole_and_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "users"
    assert put(path, "h.keller", "analyst", SECRET) is False
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and SECRET not in path.read_text() and "$argon2id$" in path.read_text()
    assert list(tmp_path.iterdir()) == [path], "nothing is left beside it"
    for name, password, why in (("a b", SECRET, "a name has"), ("x", "short", "expected 12 to 256")):
        with pytest.raises(UsersError, match=why):
            put(path, name, "viewer", password)
    path.write_text(path.read_text() + "h.keller admin $argon2id$x\n")
    with pytest.raises(UsersError, match="there twice"):
        read(path)
    path.chmod(0o644)
    with pytest.raises(UsersError, match="others may read"):
        read(path)


def test_the_command_adds_lists_and_removes_users(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, password = tmp_path / "users", tmp_path / "password"
    password.write_text(SECRET + "\n")
    password.chmod(0o600)
    at = ["--users", str(path)]
    assert main(["console", "user", "add", "h.keller", "--role", "analyst", "--password-file", str(password), *at]) == 0
    assert main(["console", "user", "list", *at]) == 0
    assert "h.keller\tanalyst" in capsys.readouterr().out
    assert main(["console", "user", "add", "x", "--role", "king", "--password-file", str(password), *at]) == 2
    assert main(["console", "user", "remove", "h.keller", *at]) == 0
    assert main(["console", "user", "remove", "h.keller", *at]) == 2
    assert "no user h.keller" in capsys.readouterr().err
