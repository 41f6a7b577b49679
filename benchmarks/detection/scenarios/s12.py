"""S12, a new account: made, given rights and used within four minutes."""

from benchmarks.detection.scenarios.play import Expected, Scenario
from benchmarks.detection.scenarios.stage import Stage, Tape, plant_time
from examples.plant import clients
from examples.plant.ledger import Entry

ORDERS = "select id, line, product, quantity from mes.work_order"


def attack(stage: Stage) -> Tape:
    """CREATE ROLE, GRANT, and the first login from somewhere else."""
    name = f"tmp_{stage.chance.randint(100, 999)}"
    stage.plant.passwords[name] = password = stage.plant.new_password()
    mes, login, host = stage.login("svc_mes", application="mes-app/7.2"), stage.login(name, application="python"), stage.host("laptop")
    takes = []
    made = f"create role {name} login password '{password}'"
    given = [f"grant select on mes.work_order to {name}", f"grant usage on schema mes to {name}"]
    for statements in ([made], given):
        with stage.take() as take:
            stage.host("mes-app").call(lambda statements=statements: clients.execute(mes, stage.plant.ledger, statements))  # type: ignore[misc]
        takes.append(take)
    with stage.take() as take:
        host.call(lambda: clients.select(login, stage.plant.ledger, ORDERS))
    tape = Tape()
    for minute, one in enumerate([*takes, take]):
        tape.add(one, plant_time(f"2026-04-07 10:0{minute * 2}"))
    return tape


def twin(stage: Stage) -> Tape:
    """An account that has long been there changes its password, as psql's \\password does, and works on."""
    mes, changed = stage.login("svc_mes", application="mes-app/7.2"), stage.plant.new_password()

    def rotate() -> None:
        with clients.psycopg_session(mes, stage.plant.ledger) as (connection, entry):
            hashed = connection.pgconn.encrypt_password(changed.encode(), b"svc_mes", b"scram-sha-256").decode()
            connection.execute(f"alter role svc_mes password '{hashed}'")
            entry.messages += 1

    def work() -> Entry:
        return clients.select(stage.login("svc_mes", application="mes-app/7.2"), stage.plant.ledger, ORDERS)

    tape = Tape()
    for minute, act in enumerate((work, rotate, work)):
        with stage.take() as take:
            stage.host("mes-app").call(act)
        if act is rotate:
            stage.plant.passwords["svc_mes"] = changed
        tape.add(take, plant_time(f"2026-04-07 10:0{minute}"))
    return tape


SCENARIO = Scenario(
    "S12", "new account", attack, twin,
    (
        Expected("undeclared-account", "who", r"no account made or given rights -> tmp_\d+ given", immediate=True),
        Expected("new-account", "who", r"made by svc_mes at mes-app", immediate=True),
        Expected("new-account", "who", r"given select.* by svc_mes at mes-app", immediate=True),
        Expected("new-account", "who", r"first use from 10\.40\.9\.90 with python, made .* by svc_mes", immediate=True),
    ),
    attacked="CREATE ROLE, GRANT, first login within 4 min",
    benign="rotation of an existing account's password",
)  # fmt: skip
