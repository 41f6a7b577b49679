"""Webhook: one POST a letter, signed so that the receiver knows who sent it and that it is no replay.

The signature is that of Standard Webhooks 1.0.0 (https://www.standardwebhooks.com, "Signature scheme"): HMAC-SHA256 over
``id.timestamp.body`` in ``webhook-signature: v1,BASE64``. ``webhook-id`` is the event's id, the same at every attempt, by which a second
delivery is recognised; ``webhook-timestamp`` is the attempt's, by which an old one is refused.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import time
from collections.abc import Callable, Sequence
from hashlib import sha256

from alerts.delivery import Item, Plain, tls
from alerts.delivery.http import Http, judge
from alerts.delivery.rendering import Render
from alerts.settings import WebhookSettings


class Webhook(Plain):
    """One receiver."""

    # An answer is of one letter.
    batch_max = 1
    acknowledgement = "its answer to the request"

    def __init__(self, settings: WebhookSettings, render: Render, *, time_s: Callable[[], float] = time.time) -> None:
        self._settings, self._render, self._time_s = settings, render, time_s
        self._key = None if settings.secret is None else key(settings.secret.get_secret_value())
        self._http = Http(
            tls.context(settings.ca_file, settings.certificate_file, settings.key_file, settings.key_password),
            timeout_s=settings.timeout_s,
            token=None if settings.token is None else f"Bearer {settings.token.get_secret_value()}",
            proxy=settings.proxy,
        )

    def send(self, batch: Sequence[Item]) -> None:
        for item in batch:
            body = self._render(item.event)
            headers = {"Content-Type": self._settings.content_type, **self._signed(item.event.event_id, body)}
            status, _, said = self._http.post(self._settings.address, body, headers)
            judge(status, said)

    def _signed(self, identity: str, body: bytes) -> dict[str, str]:
        timestamp = str(int(self._time_s()))
        headers = {"webhook-id": identity, "webhook-timestamp": timestamp}
        if self._key is not None:
            headers["webhook-signature"] = signature(self._key, identity, timestamp, body)
        return headers

    def close(self) -> None:
        self._http.close()


def key(secret: str) -> bytes:
    """The key a secret holds: ``whsec_`` and base64 as Standard Webhooks has it, or the text itself.

    Raises:
        ValueError: what follows ``whsec_`` is no base64.
    """
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise ValueError("secret: expected whsec_ and base64") from None


def signature(key: bytes, identity: str, timestamp: str, body: bytes) -> str:
    """``v1,`` and the base64 of the HMAC-SHA256 (Standard Webhooks 1.0.0, "Signature scheme")."""
    signed = hmac.digest(key, f"{identity}.{timestamp}.".encode() + body, sha256)
    return f"v1,{base64.b64encode(signed).decode()}"
