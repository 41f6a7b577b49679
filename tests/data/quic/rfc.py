"""Writes the Initial packets of RFC 9001, Appendix A.2 and A.3, and of RFC 9369, Appendix A.2 and A.3, one file a version.

The client's packet is sealed here from the plaintext and keys that the RFCs print, and held against the first and last
bytes that they print of it; the server's is theirs. Lines as in record.py. Usage: rfc.py DIRECTORY
"""

from __future__ import annotations

import pathlib
import sys

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FRAMES = bytes.fromhex(
    "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c00000413011302010000c000000010000e00000b6578"
    "616d706c652e636f6dff01000100000a00080006001d0017001800100007000504616c706e000500050100000000003300260024001d00209370b2c9caa47fba"
    "baf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b0003020304000d0010000e0403050306030203080408050806002d00020101001c0002400100"
    "3900320408ffffffffffffffff05048000ffff07048000ffff0801100104800075300901100f088394c8f03e51570806048000ffff"
).ljust(1162, b"\0")
CASES = {
    "rfc9001": (
        ("1f369613dd76d5467730efcbe3b1a22d", "fa044b2f42a3fd3b46fb255c", "9f50449e04a0e810283a1e9933adedd2"),
        "c300000001088394c8f03e5157080000449e00000002",
        ("c000000001088394c8f03e5157080000449e7b9aec34d1b1", "e221af44860018ab0856972e194cd934"),
        "cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a5816b6394100f37a1c69797554780bb38cc5a99f5ede4cf73c3ec2493a1839b3"
        "dbcba3f6ea46c5b7684df3548e7ddeb9c3bf9c73cc3f3bded74b562bfb19fb84022f8ef4cdd93795d77d06edbb7aaf2f58891850abbdca3d20398c276456cbc4"
        "2158407dd074ee",
    ),
    "rfc9369": (
        ("8b1a0bc121284290a29e0971b5cd045d", "91f73e2351d8fa91660e909f", "45b95e15235d6f45a6b19cbcb0294ba9"),
        "d36b3343cf088394c8f03e5157080000449e00000002",
        ("d76b3343cf088394c8f03e5157080000449ea0c95e82ffe6", "a18b2faa745b6fe189cf772a9f84cbfc"),
        "dc6b3343cf0008f067a5502a4262b5004075d92faaf16f05d8a4398c47089698baeea26b91eb761d9b89237bbf87263017915358230035f7fd3945d88965cf17"
        "f9af6e16886c61bfc703106fbaf3cb4cfa52382dd16a393e42757507698075b2c984c707f0a0812d8cd5a6881eaf21ceda98f4bd23f6fe1a3e2c43edd9ce7ca8"
        "4bed8521e2e140",
    ),
}


def main(into: pathlib.Path) -> None:
    for name, ((key, iv, hp), head, (first, last), server) in CASES.items():
        header = bytearray.fromhex(head)
        nonce = (int(iv, 16) ^ 2).to_bytes(12, "big")
        sealed = AESGCM(bytes.fromhex(key)).encrypt(nonce, FRAMES, bytes(header))
        mask = Cipher(algorithms.AES(bytes.fromhex(hp)), modes.ECB()).encryptor().update(sealed[:16])
        header[0] ^= mask[0] & 0x0F
        for place in range(4):
            header[-4 + place] ^= mask[1 + place]
        client = (bytes(header) + sealed).hex()
        assert client.startswith(first) and client.endswith(last), name
        (into / f"{name}.txt").write_text(f"> {client}\n< {server}\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
