"""The sensor that the settings of a program that listens describe."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from collectors import packets
from collectors.slow.path import slowed
from hopwatch.config import CaptureSettings


def sensor_of(settings: CaptureSettings, plant: str, sensors: packets.Sensors) -> packets.Sensor:
    """The sensor, with its slow-path decoders beside it.

    Raises:
        CaptureError: one line; it cannot be made, or a decoder cannot be loaded.
    """
    made = sensors(
        plant,
        settings.agent,
        tap=settings.tap,
        verify_checksums=settings.verify_checksums,
        vlans_equal=settings.vlans_equal,
        tap_of=settings.tap_of,
    )
    return slowed(made, settings.plugins)


def listening(settings: CaptureSettings, sensor: packets.Sensor, stopping: Callable[[], bool]) -> Iterator[list[bytes]]:
    """The events of the interfaces, until ``stopping``.

    Raises:
        CaptureError: as `packets.from_interfaces`.
    """
    return packets.from_interfaces(sensor, settings.interfaces, stopping, bpf=settings.bpf, snaplen=settings.snaplen)
