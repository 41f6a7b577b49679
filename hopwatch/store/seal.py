"""What may rest only unreadable: the judge's memory names accounts in clear, because hops are matched by name.

It is sealed under a key derived from that of the pseudonyms (RFC 5869), so whoever may not undo a pseudonym cannot read it either.
"""

from __future__ import annotations

import os
import zlib

NONCE_BYTES = 12
"""A random nonce of 96 bits serves for 2**32 seals under one key (NIST SP 800-38D, 8.3): centuries at one in five seconds."""

_PURPOSE = b"hopwatch state 1"


class Sealer:
    """Seals texts under ``key``; ``name`` says what a text is, and one sealed as something else does not open."""

    def __init__(self, key: bytes) -> None:
        # Loaded when there is something to seal: it takes 6 MB, and most of what names a store never opens one.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        self._cipher = AESGCM(HKDF(SHA256(), 32, salt=None, info=_PURPOSE).derive(key))

    def seal(self, name: str, text: bytes) -> bytes:
        """The text, compressed and encrypted."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, zlib.compress(text, 1), name.encode())

    def opened(self, name: str, sealed: bytes) -> bytes:
        """The text again.

        Raises:
            ValueError: it was changed, or sealed under another key or name.
        """
        from cryptography.exceptions import InvalidTag

        try:
            return zlib.decompress(self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], name.encode()))
        except (InvalidTag, zlib.error):
            raise ValueError("changed, or sealed under another key") from None
