"""A window as the declaration knows it: which end is which asset, who dialled, whose account it is, what its objects are."""

from datetime import date

from detectors.amounts import sets_of
from detectors.compare import ATTEMPT, CONTROL, UNREAD, Seen, every_column, holder, instant
from detectors.kept import Asked
from hopwatch.declared.match import NOTHING_MET, End, Index, Met
from hopwatch.events import Flow, ObjectSet


def seen_as(
    index: Index, flow: Flow, start_ns: int, day: date, who: tuple[str | None, str | None, str | None], *, complete: bool, again: bool
) -> Seen:
    """The window as the declaration knows it; ``again``: it was counted before, under another edition."""
    source = index.end(flow.source.address, flow.source.port, flow.source.names)
    destination = index.end(flow.destination.address, flow.destination.port, flow.destination.names)
    opened_by = flow.opened_by
    if opened_by is None:
        # Nobody saw the handshake: the end that the file knows as listening there is the server, by its assets or its
        # services, else the lower port.
        known = (source.asset is not None, destination.asset is not None)
        if known[0] == known[1]:
            known = (_lists(index, source, destination, flow), _lists(index, destination, source, flow))
        lower = 0 < source.port < destination.port if known[0] == known[1] else known[0]
        opened_by = "destination" if lower else "source"
    server, client = (destination, source) if opened_by == "source" else (source, destination)
    account, application, role = who
    own_password = flow.operation == "admin" and bool(flow.objects) and all(_own_password(part, flow.account) for part in flow.objects)
    unread = flow.operation == UNREAD or (flow.depth in ("sizes", "blind") and flow.operation not in (ATTEMPT, *CONTROL))
    asset = holder(index, server, client)
    met = tuple(index.met(asset, part.names, every_column(flow.operation, part)) for part in flow.objects)
    sets: tuple[tuple[ObjectSet | None, Met], ...] = ((None, NOTHING_MET),)
    if not (unread or own_password or flow.operation in (ATTEMPT, *CONTROL)):
        sets = tuple(zip(sets_of(flow), met or (NOTHING_MET,), strict=True))
    return Seen(
        flow=flow,
        server=server,
        client=client,
        source=source,
        destination=destination,
        start_ns=start_ns,
        start=instant(start_ns),
        day=day,
        account=account,
        declared_account=index.account(account),
        application=application,
        role=role,
        control=flow.operation in CONTROL or own_password,
        unread=unread,
        complete=complete,
        again=again,
        sets=sets,
        met=met,
        asked=Asked(),
    )


def _lists(index: Index, server: End, client: End, flow: Flow) -> bool:
    """Whether a service says that the one serves the other at this port."""
    return any(index.services(server, client, server.port, flow.protocol))


def _own_password(part: ObjectSet, account: str | None) -> bool:
    """Whether the statement changes the password of the account that makes it, and nothing else."""
    # ALTER ROLE says ``alter`` beside what it alters; a right given with it stands there too.
    return account is not None and part.names == [f"account:{account}"] and set(part.columns) in ({"password"}, {"alter", "password"})
