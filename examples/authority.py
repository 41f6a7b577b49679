"""A certificate authority for one run: what a plant's own would issue to its brokers, agents and detectors."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAYS = 2


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its private key, as PEM files."""

    certificate: Path
    key: Path

    @property
    def together(self) -> Path:
        """Key and certificate in one file, as Kafka's PEM key store wants them."""
        return self.key.with_suffix(".pem")


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs certificates into ``folder``; ``certificate`` is what those must trust who are shown them."""

    folder: Path
    name: str = "plant"
    _key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()), repr=False)

    def __post_init__(self) -> None:
        made = self._builder(self.name, self._key.public_key(), datetime.now(UTC), timedelta(days=DAYS))
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        made = made.add_extension(x509.BasicConstraints(True, 0), critical=True).add_extension(usage, critical=True)
        self.certificate.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    @property
    def certificate(self) -> Path:
        """The authority's own certificate."""
        return self.folder / f"{self.name}-ca.crt"

    def issue(self, name: str, *addresses: str, ended: timedelta | None = None) -> Certificate:
        """A certificate for ``name`` (its CN) at ``addresses``; with ``ended``, one that has been out of date for so long."""
        key = ec.generate_private_key(ec.SECP256R1())
        since = datetime.now(UTC) - (ended + timedelta(days=DAYS) if ended else timedelta(hours=1))
        made = self._builder(name, key.public_key(), since, timedelta(days=DAYS))
        names = [x509.DNSName(name), *(x509.IPAddress(ip_address(address)) for address in addresses)]
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        made = made.add_extension(x509.BasicConstraints(False, None), critical=True)
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        made = made.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        signed = made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        held = Certificate(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        held.certificate.write_bytes(signed)
        for path, content in ((held.key, private), (held.together, private + signed)):
            path.touch(mode=0o600)
            path.write_bytes(content)
        return held

    def _builder(self, name: str, key: ec.EllipticCurvePublicKey, since: datetime, valid: timedelta) -> x509.CertificateBuilder:
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{self.name} authority")])
        own = key == self._key.public_key()
        subject = issuer if own else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
        made = made.serial_number(x509.random_serial_number()).not_valid_before(since).not_valid_after(since + valid)
        mine = x509.SubjectKeyIdentifier.from_public_key(key)
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return made.add_extension(mine, critical=False).add_extension(signer, critical=False)
