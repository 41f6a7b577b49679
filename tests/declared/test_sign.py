"""Signatures: each form verifies, and each way of not being approved is UNSIGNED with its reason."""

import base64
import hashlib
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hopwatch.declared.load import load
from hopwatch.declared.sign import Approver, read_approvers, sign, signature_path, verify

CONTENT = b"plant: north\n"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
RAW = serialization.Encoding.Raw
PUBLIC = KEY.public_key().public_bytes(RAW, serialization.PublicFormat.Raw)
PEM = KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
KELLER = Approver(("h.keller", "h.keller@example.com"), PUBLIC)


def minisigned(content: bytes, algorithm: bytes) -> bytes:
    message = hashlib.blake2b(content, digest_size=64).digest() if algorithm == b"ED" else content
    signature = KEY.sign(message)
    comment = b"timestamp:1"
    made = base64.b64encode(algorithm + b"12345678" + signature)
    return b"\n".join([b"untrusted comment: x", made, b"trusted comment: " + comment, base64.b64encode(KEY.sign(signature + comment)), b""])


@pytest.mark.parametrize("signature", [sign(CONTENT, PEM), minisigned(CONTENT, b"ED"), minisigned(CONTENT, b"Ed")], ids=["raw", "ED", "Ed"])
def test_signature_by_an_approver_holds_and_one_changed_byte_breaks_it(signature: bytes) -> None:
    assert verify(CONTENT, signature, [KELLER], ["a.ruiz"]).signed
    assert not verify(CONTENT + b" ", signature, [KELLER], ["a.ruiz"]).signed
    assert not verify(CONTENT, signature, [], ["a.ruiz"]).signed


def test_changed_trusted_comment_of_minisign_breaks_the_signature() -> None:
    assert not verify(CONTENT, minisigned(CONTENT, b"ED").replace(b"timestamp:1", b"timestamp:2"), [KELLER], []).signed


def test_author_does_not_approve_his_own_file() -> None:
    verdict = verify(CONTENT, sign(CONTENT, PEM), [KELLER], ["Somebody", "H.Keller@example.com"])
    assert (verdict.signed, verdict.why) == (False, "signed by h.keller, who wrote it; author and approver must differ")


@pytest.mark.parametrize("signature", [b"", b"!", b"-----BEGIN SSH SIGNATURE-----", b"untrusted comment: x\n", b"A" * 20_000, b"AAAA"])
def test_signature_that_cannot_be_read_is_unsigned_with_its_reason(signature: bytes) -> None:
    verdict = verify(CONTENT, signature, [KELLER], [])
    assert not verdict.signed
    assert verdict.why


def test_every_kind_of_approver_key_is_read() -> None:
    plain = base64.b64encode(PUBLIC).decode()
    mini = base64.b64encode(b"Ed" + b"12345678" + PUBLIC).decode()
    ssh = KEY.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    approvers = read_approvers(f"# who may approve\na ed25519 {plain}\nb,b@example.com minisign {mini}\nc {ssh} comment\n")
    assert [approver.key for approver in approvers] == [PUBLIC] * 3
    with pytest.raises(ValueError, match="line 1: not base64"):
        read_approvers("a ed25519 %%%")


@pytest.mark.parametrize(("namespace", "signed"), [("hopwatch", True), ("file", True), ("git", False)])
def test_signature_of_ssh_keygen_holds_in_our_namespaces_only(tmp_path: Path, namespace: str, signed: bool) -> None:
    (tmp_path / "plant.yaml").write_bytes(CONTENT)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", tmp_path / "key", tmp_path / "plant.yaml"], check=True)
    approvers = read_approvers(f"h.keller {(tmp_path / 'key.pub').read_text()}")
    signature = (tmp_path / "plant.yaml.sig").read_bytes()
    assert verify(CONTENT, signature, approvers, ["a.ruiz"]).signed is signed
    assert not verify(CONTENT + b" ", signature, approvers, ["a.ruiz"]).signed


@pytest.mark.parametrize("options", [[], ["-l"]], ids=["of the file's hash", "of the file"])
def test_signature_and_key_of_minisign_itself_hold(tmp_path: Path, options: list[str]) -> None:
    content, key = tmp_path / "plant.yaml", tmp_path / "key"
    content.write_bytes(CONTENT)
    subprocess.run(["minisign", "-G", "-W", "-p", f"{key}.pub", "-s", key], check=True, capture_output=True)
    subprocess.run(["minisign", "-S", *options, "-s", key, "-m", content, "-x", signature_path(content)], check=True, capture_output=True)
    made = signature_path(content).read_bytes()
    approvers = read_approvers(f"h.keller minisign {Path(f'{key}.pub').read_text().splitlines()[1]}")
    assert verify(CONTENT, made, approvers, ["a.ruiz"]).signed
    assert not verify(CONTENT + b" ", made, approvers, ["a.ruiz"]).signed
    assert not verify(CONTENT, made.replace(b"timestamp:", b"timestamp;"), approvers, ["a.ruiz"]).signed


def test_signature_of_openssl_holds(tmp_path: Path) -> None:
    content, key, made = tmp_path / "plant.yaml", tmp_path / "key.pem", tmp_path / "raw"
    content.write_bytes(CONTENT)
    key.write_bytes(PEM)
    subprocess.run(["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", content, "-out", made], check=True)
    assert verify(CONTENT, base64.b64encode(made.read_bytes()), [KELLER], ["a.ruiz"]).signed


def test_signed_file_loads_as_signed_and_without_keys_as_unsigned(tmp_path: Path) -> None:
    path = tmp_path / "plant-north.yaml"
    path.write_bytes((Path(__file__).parents[2] / "examples" / "plant-north.yaml").read_bytes())
    signature_path(path).write_bytes(sign(path.read_bytes(), PEM))
    keys = tmp_path / "approvers"
    keys.write_text(f"h.keller ed25519 {base64.b64encode(PUBLIC).decode()}\n")
    assert load(path, approvers=keys).declaration.signed
    unsigned = load(path, approvers=tmp_path / "absent").declaration
    assert (unsigned.signed, unsigned.approval.startswith("no approver keys")) == (False, True)
