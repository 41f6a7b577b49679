"""Records TLS handshakes of Python's ``ssl`` with itself, over memory buffers, one file a case.

A line is ``> HEX`` (client) or ``< HEX`` (server). Keys and certificates are made for the run and thrown away; the
requests inside are encrypted and say nothing. Usage: record.py DIRECTORY
"""

from __future__ import annotations

import datetime
import pathlib
import ssl
import sys
import tempfile

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID


def certificate(directory: pathlib.Path, name: str, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    """A self-signed certificate for ``name``, valid for the year 2026; the path of its PEM file, key included."""
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begin = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=730))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name), x509.DNSName("mes.plant.example")]), False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = directory / f"{name}.pem"
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return str(path)


def record(path: pathlib.Path, version: ssl.TLSVersion, mutual: bool, alpn: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        server_pem = certificate(directory, "mes-db.plant.example", ec.generate_private_key(ec.SECP256R1()))
        client_pem = certificate(directory, "edge-press-1", rsa.generate_private_key(65537, 2048))
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for context in (server, client):
            context.minimum_version = context.maximum_version = version
        server.load_cert_chain(server_pem)
        client.load_verify_locations(server_pem)
        if mutual:
            client.load_cert_chain(client_pem)
            server.verify_mode = ssl.CERT_REQUIRED
            server.load_verify_locations(client_pem)
        if alpn:
            client.set_alpn_protocols(alpn)
            server.set_alpn_protocols(alpn)
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        near = client.wrap_bio(to_client, to_server, server_hostname="mes-db.plant.example")
        far = server.wrap_bio(to_server, to_client, server_side=True)
        lines: list[str] = []
        done = [False, False]
        while not all(done):
            for index, end in enumerate((near, far)):
                out = (to_server, to_client)[index]
                before = out.read()
                assert not before
                try:
                    end.do_handshake()
                    done[index] = True
                except ssl.SSLWantReadError:
                    pass
                lines += say(index, out)
        near.write(b"request " * 40)
        lines += say(0, to_server)
        far.read(320)
        far.write(b"rows " * 400)
        lines += say(1, to_client)
        path.write_text("\n".join(lines) + "\n")


def say(index: int, bio: ssl.MemoryBIO) -> list[str]:
    """What one end just wrote, left in the buffer for the other to read."""
    said = bio.read()
    bio.write(said)
    return [f"{'><'[index]} {said.hex()}"] if said else []


if __name__ == "__main__":
    into = pathlib.Path(sys.argv[1])
    record(into / "tls12-mutual.txt", ssl.TLSVersion.TLSv1_2, True, ["postgresql"])
    record(into / "tls13.txt", ssl.TLSVersion.TLSv1_3, False, ["h2", "http/1.1"])
    # SQL Server's "strict" is TLS before anything else (MS-TDS 2.1).
    record(into / "tds-strict.txt", ssl.TLSVersion.TLSv1_3, False, ["tds/8.0"])
