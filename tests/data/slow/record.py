"""Records Modbus/TCP and IEC 60870-5-104 between real stacks, and what the client itself counted.

usage: record.py OUT_DIR     (root; needs pymodbus, c104, libmodbus5, tcpdump, ip)

A client in one network namespace (10.40.9.77) talks to a server in another (10.10.1.11); both are made here and gone afterwards.
Per scenario NAME.pcap, and NAME.json with `{"provenance", "ledger": {operation: [messages, values]}}`: the client's requests and their
answers, and the values that it wrote or was given, added up as its library's calls return. Nothing in it comes from a plant.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import pathlib
import signal
import subprocess
import sys
import time
from collections import Counter

CLIENT, SERVER = "10.40.9.77", "10.10.1.11"
SPACES = {"slow-ai": CLIENT, "slow-cell": SERVER}


class Ledger:
    """Messages and values by operation, as the client counts them."""

    def __init__(self) -> None:
        self.messages: Counter[str] = Counter()
        self.values: Counter[str] = Counter()

    def add(self, operation: str, values: int = 0, messages: int = 2) -> None:
        self.messages[operation] += messages
        self.values[operation] += values

    def json(self) -> dict[str, list[int]]:
        return {name: [self.messages[name], self.values[name]] for name in sorted(self.messages)}


async def modbus_server() -> None:
    from pymodbus.server import StartAsyncTcpServer
    from pymodbus.simulator import DataType, SimData, SimDevice

    def block(kind: DataType) -> list[SimData]:
        return [SimData(0, count=400, values=True if kind == DataType.BITS else 7, datatype=kind)]

    bits, words = block(DataType.BITS), block(DataType.REGISTERS)
    device = SimDevice(id=1, simdata=(bits, bits, words, words))
    await StartAsyncTcpServer(device, address=(SERVER, 502))


async def modbus_pymodbus() -> Ledger:
    from pymodbus.client import AsyncModbusTcpClient

    ledger = Ledger()
    client = AsyncModbusTcpClient(SERVER, port=502)
    while not await client.connect():
        await asyncio.sleep(0.1)
    for address, count in ((0, 10), (16, 1), (3, 33)):
        assert not (await client.read_coils(address, count=count)).isError()
        ledger.add("read", count)
        assert not (await client.read_discrete_inputs(address, count=count)).isError()
        ledger.add("read", count)
    for address, count in ((0, 1), (100, 20), (5, 125)):
        ledger.add("read", len((await client.read_holding_registers(address, count=count)).registers))
        ledger.add("read", len((await client.read_input_registers(address, count=count)).registers))
    for address in range(4):
        assert not (await client.write_coil(address, True)).isError()
        ledger.add("write", 1)
        assert not (await client.write_register(100 + address, 42)).isError()
        ledger.add("write", 1)
    assert not (await client.write_coils(8, [True] * 9)).isError()
    ledger.add("write", 9)
    assert not (await client.write_registers(200, [1] * 12)).isError()
    ledger.add("write", 12)
    assert (await client.write_registers(4000, [1] * 3)).isError()
    # The values were asked to be written, and the server refused.
    ledger.add("write", 3)
    assert (await client.read_holding_registers(4000, count=3)).isError()
    ledger.add("read")
    both = await client.readwrite_registers(read_address=10, read_count=4, write_address=20, values=[1, 2])
    assert not both.isError()
    ledger.add("write", 2, messages=1)
    ledger.add("read", len(both.registers), messages=1)
    # Many at once: requests of one transaction after another in one segment.
    many = await asyncio.gather(*(client.read_holding_registers(address, count=2) for address in range(30)))
    for one in many:
        ledger.add("read", len(one.registers))
    client.close()
    return ledger


def modbus_libmodbus() -> Ledger:
    library = ctypes.CDLL("libmodbus.so.5")
    library.modbus_new_tcp.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.modbus_new_tcp(SERVER.encode(), 502))
    while library.modbus_connect(context) != 0:
        time.sleep(0.1)
    library.modbus_set_slave(context, 1)
    ledger = Ledger()
    bits, words = (ctypes.c_uint8 * 512)(*([1] * 512)), (ctypes.c_uint16 * 256)(*([9] * 256))
    for address, count in ((0, 7), (40, 64)):
        ledger.add("read", library.modbus_read_bits(context, address, count, bits))
        ledger.add("read", library.modbus_read_input_bits(context, address, count, bits))
        ledger.add("read", library.modbus_read_registers(context, address, count, words))
        ledger.add("read", library.modbus_read_input_registers(context, address, count, words))
        ledger.add("write", library.modbus_write_bits(context, address, count, bits))
        ledger.add("write", library.modbus_write_registers(context, address, count, words))
    ledger.add("write", library.modbus_write_bit(context, 3, 1))
    ledger.add("write", library.modbus_write_register(context, 3, 17))
    written = library.modbus_write_and_read_registers(context, 50, 5, words, 60, 6, words)
    ledger.add("write", 5, messages=1)
    ledger.add("read", written, messages=1)
    library.modbus_close(context)
    return ledger


def iec104_server() -> None:
    import c104

    server = c104.Server(ip=SERVER, port=2404, tick_rate_ms=50)
    station = server.add_station(common_address=47)
    for address in range(11, 17):
        point = station.add_point(io_address=address, type=c104.Type.M_ME_NC_1)
        point.value = 12.5
    for address in range(30, 33):
        station.add_point(io_address=address, type=c104.Type.M_SP_NA_1).value = True

    def commanded(point, previous_info, message):  # type: ignore[no-untyped-def]  # its types are looked at, below
        return c104.ResponseState.SUCCESS

    kinds = {"point": c104.Point, "previous_info": c104.Information, "message": c104.IncomingMessage, "return": c104.ResponseState}
    commanded.__annotations__ = kinds
    for address in (100, 101, 102):
        station.add_point(io_address=address, type=c104.Type.C_SC_NA_1).on_receive(callable=commanded)
    selected = c104.CommandMode.SELECT_AND_EXECUTE
    station.add_point(io_address=110, type=c104.Type.C_SE_NC_1, command_mode=selected).on_receive(callable=commanded)
    server.start()
    spontaneous = station.get_point(11)
    while True:
        time.sleep(0.3)
        if server.has_active_connections:
            spontaneous.value = spontaneous.value + 1
            spontaneous.transmit(cause=c104.Cot.SPONTANEOUS)


def iec104_c104() -> Ledger:
    import c104

    ledger = Ledger()
    client = c104.Client(tick_rate_ms=50, command_timeout_ms=3000)
    connection = client.add_connection(ip=SERVER, port=2404, init=c104.Init.NONE)
    station = connection.add_station(common_address=47)
    for address in range(11, 17):
        station.add_point(io_address=address, type=c104.Type.M_ME_NC_1)
    for address in range(30, 33):
        station.add_point(io_address=address, type=c104.Type.M_SP_NA_1)

    def received(connection, data):  # type: ignore[no-untyped-def]  # its types are looked at, below
        if len(data) < 12 or data[2] & 1:
            return
        kind, cause, count = data[6], data[8] & 0x3F, data[7] & 0x7F
        if kind < 45:
            ledger.add("subscribe" if cause in (1, 2, 3, 4) else "read", count, messages=1)
        else:
            ledger.add("read" if kind == 100 else "write", messages=1)

    received.__annotations__ = {"connection": c104.Connection, "data": bytes, "return": None}
    connection.on_receive_raw(callable=received)
    client.start()
    while not connection.is_connected:
        time.sleep(0.1)
    time.sleep(1)
    assert connection.interrogation(common_address=47, cause=c104.Cot.ACTIVATION, qualifier=c104.Qoi.STATION, wait_for_response=True)
    ledger.add("read", messages=1)
    for address in (100, 101, 102):
        command = station.add_point(io_address=address, type=c104.Type.C_SC_NA_1)
        command.value = True
        assert command.transmit(cause=c104.Cot.ACTIVATION)
        ledger.add("write", 1, messages=1)
    setpoint = station.add_point(io_address=110, type=c104.Type.C_SE_NC_1, command_mode=c104.CommandMode.SELECT_AND_EXECUTE)
    setpoint.value = 7.5
    assert setpoint.transmit(cause=c104.Cot.ACTIVATION)
    ledger.add("write", 1, messages=2)  # selected, then executed
    time.sleep(1.5)
    client.stop()
    return ledger


SCENARIOS = {
    "modbus-pymodbus": (modbus_server, modbus_pymodbus, "pymodbus {pymodbus} client and server"),
    "modbus-libmodbus": (modbus_server, modbus_libmodbus, "libmodbus 3.1.6 client, pymodbus {pymodbus} server"),
    "iec104-c104": (iec104_server, iec104_c104, "c104 {c104} (lib60870-C) client and server"),
}


def run(command: str) -> None:
    subprocess.run(command.split(), check=True)


def made(out: pathlib.Path, name: str) -> None:
    from importlib.metadata import version

    capture = subprocess.Popen(
        [
            "ip",
            "netns",
            "exec",
            "slow-cell",
            "tcpdump",
            "-Z",
            "root",
            "--immediate-mode",
            "-U",
            "-i",
            "slow-b",
            "-w",
            str(out / f"{name}.pcap"),
            "ip",
        ],
        stderr=subprocess.DEVNULL,
    )
    here = [sys.executable, __file__]
    server = subprocess.Popen(["ip", "netns", "exec", "slow-cell", *here, "--server", name])
    try:
        time.sleep(2)
        said = subprocess.run(
            ["ip", "netns", "exec", "slow-ai", *here, "--client", name], check=True, timeout=60, stdout=subprocess.PIPE
        ).stdout
    finally:
        server.kill()
        server.wait()
        time.sleep(0.5)
        capture.send_signal(signal.SIGINT)
        capture.wait()
    what = SCENARIOS[name][2].format(pymodbus=version("pymodbus"), c104=version("c104"))
    recording = {"provenance": f"recorded by record.py: {what}, {CLIENT} and {SERVER} in namespaces", "ledger": json.loads(said)}
    (out / f"{name}.json").write_text(json.dumps(recording, indent=1) + "\n")


def main(out: pathlib.Path) -> None:
    for name in SPACES:
        run(f"ip netns add {name}")
    try:
        run("ip link add slow-a netns slow-ai type veth peer name slow-b netns slow-cell")
        for (name, address), link, other in zip(SPACES.items(), ("slow-a", "slow-b"), (SERVER, CLIENT), strict=True):
            run(f"ip -n {name} address add {address}/32 dev {link}")
            run(f"ip -n {name} link set {link} up")
            run(f"ip -n {name} link set lo up")
            run(f"ip -n {name} route add {other}/32 dev {link}")
        for scenario in SCENARIOS:
            made(out, scenario)
    finally:
        for name in SPACES:
            run(f"ip netns del {name}")


if __name__ == "__main__":
    if sys.argv[1] in ("--server", "--client"):
        role = SCENARIOS[sys.argv[2]][sys.argv[1] == "--client"]
        result = asyncio.run(role()) if asyncio.iscoroutinefunction(role) else role()
        if result is not None:
            print(json.dumps(result.json()))
    else:
        main(pathlib.Path(sys.argv[1]))
