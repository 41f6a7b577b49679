"""Destinations from their settings."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping

from alerts.delivery import Destination
from alerts.delivery.alertmanager import Alertmanager
from alerts.delivery.file import File
from alerts.delivery.kafka import Kafka
from alerts.delivery.mail import Mail
from alerts.delivery.rendering import from_template, renderer
from alerts.delivery.splunk import Splunk
from alerts.delivery.syslog import Syslog
from alerts.delivery.webhook import Webhook
from alerts.formats.view import Origin
from alerts.settings import (
    AlertmanagerSettings,
    AlertsSettings,
    FileSettings,
    KafkaSettings,
    MailSettings,
    Settings,
    SettingsError,
    SplunkSettings,
    SyslogSettings,
    WebhookSettings,
)
from hopwatch.bus.connection import Connection
from hopwatch.events import Alert
from hopwatch.version import NOT_INSTALLED, version

Firing = Callable[[], Iterable[Alert]]
Cluster = Callable[[], Connection]


def origin(settings: AlertsSettings) -> Origin:
    """Who sends: this machine, this version, and the console's address."""
    said = version()
    return Origin(socket.gethostname(), "0" if said == NOT_INSTALLED else said, settings.console, settings.pages)


def destinations(settings: AlertsSettings, cluster: Cluster, firing: Firing = tuple) -> Mapping[str, Destination]:
    """All that are configured; nobody is spoken to yet. ``cluster`` says how Kafka is reached, ``firing`` gives the open alerts.

    Raises:
        SettingsError: a format, a template or a certificate is not what it should be.
    """
    return {name: destination(name, of, cluster, firing, origin(settings)) for name, of in settings.destinations.items()}


def destination(name: str, of: Settings, cluster: Cluster, firing: Firing = tuple, sender: Origin | None = None) -> Destination:
    """One of them.

    Raises:
        SettingsError: see ``destinations``.
    """
    try:
        return _made(of, cluster, firing, sender or Origin())
    except ValueError as error:
        raise SettingsError(f"[alerts.destinations.{name}] {error}") from None


def _made(of: Settings, cluster: Cluster, firing: Firing, sender: Origin) -> Destination:
    match of:
        case SyslogSettings():
            return Syslog(of, renderer(of.format, sender))
        case WebhookSettings():
            return Webhook(of, from_template(of.template, sender, of.settings) if of.template is not None else renderer(of.format, sender))
        case SplunkSettings():
            return Splunk(of, renderer(of.format, sender))
        case AlertmanagerSettings():
            return Alertmanager(of, sender, firing=firing)
        case MailSettings():
            return Mail(of, sender)
        case KafkaSettings():
            return Kafka(of, cluster())
        case FileSettings():
            return File(of, renderer(of.format, sender))
