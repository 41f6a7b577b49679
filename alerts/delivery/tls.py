"""One way to make a TLS context: the receiver's certificate is always checked, ours is shown where one is named."""

from __future__ import annotations

import ssl
from pathlib import Path

from pydantic import SecretStr


def context(
    ca_file: Path | None = None, certificate_file: Path | None = None, key_file: Path | None = None, key_password: SecretStr | None = None
) -> ssl.SSLContext:
    """TLS 1.2 or later, names and chain checked (RFC 9525, RFC 8446); ``ca_file`` instead of the system's authorities.

    Raises:
        ValueError: a file cannot be read or does not hold what it should; names the file.
    """
    try:
        made = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"ca_file {ca_file}: {_why(error)}") from None
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate_file is not None:
        # Without a passphrase OpenSSL would ask for one at the terminal.
        secret = key_password.get_secret_value() if key_password else ""
        try:
            made.load_cert_chain(certificate_file, key_file, secret)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise ValueError(f"certificate_file {certificate_file}, key_file {key_file}: {_why(error)}") from None
    return made


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"no PEM of the kind that is needed, or a wrong passphrase ({error.reason or 'unknown'})"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
