"""Destinations from their settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from alerts.delivery import Destination
from alerts.delivery.alertmanager import Alertmanager
from alerts.delivery.file import File
from alerts.delivery.kafka import Kafka
from alerts.delivery.mail import Mail
from alerts.delivery.rendering import renderer
from alerts.delivery.splunk import Splunk
from alerts.delivery.syslog import Syslog
from alerts.delivery.webhook import Webhook
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

Firing = Callable[[], Iterable[Alert]]
Cluster = Callable[[], Connection]


def destinations(settings: AlertsSettings, cluster: Cluster, firing: Firing = tuple) -> Mapping[str, Destination]:
    """All that are configured; nobody is spoken to yet. ``cluster`` says how Kafka is reached, ``firing`` gives the open alerts.

    Raises:
        SettingsError: a format, a template or a certificate is not what it should be.
    """
    return {name: destination(name, of, cluster, firing) for name, of in settings.destinations.items()}


def destination(name: str, of: Settings, cluster: Cluster, firing: Firing = tuple) -> Destination:
    """One of them.

    Raises:
        SettingsError: see ``destinations``.
    """
    try:
        return _made(of, cluster, firing)
    except ValueError as error:
        raise SettingsError(f"[alerts.destinations.{name}] {error}") from None


def _made(of: Settings, cluster: Cluster, firing: Firing) -> Destination:
    match of:
        case SyslogSettings():
            return Syslog(of, renderer(of.format))
        case WebhookSettings():
            return Webhook(of, renderer(of.format))
        case SplunkSettings():
            return Splunk(of, renderer("event"))
        case AlertmanagerSettings():
            return Alertmanager(of, firing=firing)
        case MailSettings():
            return Mail(of, renderer("event"))
        case KafkaSettings():
            return Kafka(of, cluster())
        case FileSettings():
            return File(of, renderer(of.format))
