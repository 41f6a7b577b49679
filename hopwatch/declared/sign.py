"""Whether a declaration was approved by someone other than its author: its commit or a detached signature, and approver keys.

A signature stands beside the file as ``plant-north.yaml.sig`` in one of three forms, told apart by their first bytes:
base64 of a bare Ed25519 signature over the file's bytes (RFC 8032, what ``hopwatch declared sign`` and
``openssl pkeyutl -sign -rawin`` write), minisign, or ``ssh-keygen -Y sign`` (OpenSSH PROTOCOL.sshsig).

Or the commit that brought the file is signed in ssh format (``git commit -S``, ``git merge -S``): the commit that last changed
it, or the merge that took that change in. It holds if the file is, byte for byte, the one of that commit.

The approver keys are a file the author of a declaration must not be able to change, so it is named from outside
(``--approvers``, ``HOPWATCH_APPROVERS``) and never looked for beside the declaration. One key a line, names as git knows
the person: ``h.keller,h.keller@example.com ssh-ed25519 AAAA…``, or ``minisign RWQ…``, or ``ed25519 BASE64``.

Unsigned is a state, not an error: the file runs and everything that quotes it says so.
"""

import base64
import binascii
import hashlib
import os
import subprocess
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

APPROVERS_DEFAULT = Path("/etc/hopwatch/approvers")
APPROVERS_MAX = 1000
SIGNATURE_BYTES_MAX = 16_384
SSH_NAMESPACES = frozenset({"hopwatch", "file"})  # of ssh-keygen -n
_GIT_NAMESPACE = "git"  # of signed commits; a signature made for one purpose is none for another
_SSH_BEGIN = b"-----BEGIN SSH SIGNATURE-----"
_SSH_END = b"-----END SSH SIGNATURE-----"
_GIT_TIMEOUT_S = 5.0


class SignatureError(ValueError):
    """A key or signature that cannot be read; never quotes it."""


@dataclass(frozen=True, slots=True)
class Approver:
    """A person whose signature approves, by every name git may know them, and one of their keys (32 bytes)."""

    names: tuple[str, ...]
    key: bytes


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the signature approves; ``why`` is the sentence to show when it does not."""

    signed: bool
    approver: str | None
    why: str


def signature_path(path: Path) -> Path:
    """Where the signature of a declaration stands."""
    return path.with_name(path.name + ".sig")


def approvers_path() -> Path:
    """The approver keys of this host."""
    return Path(os.environ.get("HOPWATCH_APPROVERS") or APPROVERS_DEFAULT)


def verify_file(path: Path, content: bytes, owner: str, approvers: Path | None = None) -> Verdict:
    """Check the signature beside a declaration, else that of its commit; ``owner`` stands for the author where git knows none."""
    try:
        signature = signature_path(path).read_bytes()[: SIGNATURE_BYTES_MAX + 1]
    except OSError:
        signature = None
    commits = signed_commits(path, content)
    return verify_all(content, signature, commits, git_authors(path) or (owner,), approvers)


def verify_all(
    content: bytes, signature: bytes | None, commits: Sequence["SignedCommit"], authors: Sequence[str], approvers: Path | None = None
) -> Verdict:
    """What a signature and signed commits that hold the content are worth to the approver keys of this host."""
    if signature is None and not commits:
        return Verdict(False, None, "no signature beside the file, and none on its commit")
    keys = approvers or approvers_path()
    try:
        known = read_approvers(keys.read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        return Verdict(False, None, f"no approver keys at {keys}")
    except SignatureError as error:
        return Verdict(False, None, f"{keys.name}: {error}")
    verdicts = [] if signature is None else [verify(content, signature, known, authors)]
    verdicts += [verify(one.payload, one.signature, known, one.authors, commit=one.id) for one in commits]
    return next((verdict for verdict in verdicts if verdict.signed), verdicts[0])


def verify(
    content: bytes, signature: bytes, approvers: Iterable[Approver], authors: Iterable[str], *, commit: str | None = None
) -> Verdict:
    """Whether one of the approvers, who is none of the authors, signed the content: a file, or that of a ``commit``."""
    writers = {author.casefold() for author in authors}
    try:
        check = _reader(content, signature) if commit is None else _ssh(content, signature, {_GIT_NAMESPACE})
    except SignatureError as error:
        return Verdict(False, None, str(error) if commit is None else f"commit {commit[:7]}: {error}")
    for approver in approvers:
        if not check(approver.key):
            continue
        if writers & {name.casefold() for name in approver.names}:
            return Verdict(False, approver.names[0], f"signed by {approver.names[0]}, who wrote it; author and approver must differ")
        where = "" if commit is None else f" in commit {commit[:7]}"
        return Verdict(True, approver.names[0], f"signed by {approver.names[0]}{where}")
    if commit is not None:
        return Verdict(False, None, f"signature of commit {commit[:7]} is of no approver's key")
    return Verdict(False, None, "signature is of no approver's key, or the file was changed after it was signed")


def sign(content: bytes, private_key: bytes, password: bytes | None = None) -> bytes:
    """A detached Ed25519 signature over the content, as one line of base64.

    Raises:
        SignatureError: the key is not a PEM or OpenSSH Ed25519 key, or its password is wrong.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    load = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in private_key else load_pem_private_key
    try:
        key = load(private_key, password)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SignatureError("private key cannot be read, expected PEM or OpenSSH, and its password if it has one") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureError("private key is not Ed25519")
    return base64.b64encode(key.sign(content)) + b"\n"


def read_approvers(text: str) -> list[Approver]:
    """The approver keys of a file; ``#`` starts a comment line.

    Raises:
        SignatureError: a line holds no key; says which line.
    """
    approvers: list[Approver] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 3:
            raise SignatureError(f"line {number}: expected names, a kind and a key")
        try:
            approvers.append(Approver(tuple(words[0].split(",")), _public_key(words[1], words[2])))
        except SignatureError as error:
            raise SignatureError(f"line {number}: {error}") from error
        if len(approvers) > APPROVERS_MAX:
            raise SignatureError(f"line {number}: over {APPROVERS_MAX} keys")
    return approvers


def git_authors(path: Path) -> tuple[str, ...]:
    """Name and address of who last committed a change of the file; empty outside git."""
    said = _git(path, "log", "-1", "--format=%an%n%ae", "--", path.name)
    return tuple(said.decode("utf-8", "replace").split("\n")[:2]) if said and said.strip() else ()


@dataclass(frozen=True, slots=True)
class SignedCommit:
    """A commit that holds the file as it is: what its signature is over, and who wrote what it brought."""

    id: str
    payload: bytes
    signature: bytes
    authors: tuple[str, ...]


def signed_commits(path: Path, content: bytes) -> list[SignedCommit]:
    """The signed ones among the commit that last changed the file and the merge that took it in, if the file is still theirs."""
    found = []
    last = _git(path, "log", "-1", "--format=%H", "--", path.name)
    taken = _git(path, "log", "-1", "--first-parent", "-m", "--format=%H", "--", path.name)
    for commit in dict.fromkeys(line for said in (last, taken) if said for line in said.decode("ascii", "replace").split()):
        if _git(path, "cat-file", "blob", f"{commit}:./{path.name}") != content:
            continue
        payload, signature = split_commit(_git(path, "cat-file", "commit", commit) or b"")
        # A merge brings what others wrote, and who merges is its author.
        wrote = _git(path, "log", "--format=%an%n%ae", f"{commit}^1..{commit}", "--", path.name) or b""
        authors = (*git_authors(path), *wrote.decode("utf-8", "replace").split("\n"))
        if signature is not None:
            found.append(SignedCommit(commit, payload, signature, tuple(dict.fromkeys(filter(None, authors)))))
    return found


def commit_objects(path: Path, commit: str) -> tuple[str, bytes, list[bytes]] | None:
    """Where the file stands in its repository, the commit object, and the tree objects from its root down to the file."""
    said = _git(path, "ls-files", "--full-name", "-z", "--", path.name)
    whole = _git(path, "cat-file", "commit", commit)
    if not said or whole is None:
        return None
    place = said.split(b"\0")[0].decode("utf-8", "surrogateescape")
    folders = place.split("/")[:-1]
    trees = [_git(path, "cat-file", "tree", f"{commit}:{'/'.join(folders[:depth])}") for depth in range(len(folders) + 1)]
    found = [tree for tree in trees if tree is not None]
    return (place, whole, found) if len(found) == len(trees) else None


def split_commit(commit: bytes) -> tuple[bytes, bytes | None]:
    """What a commit's signature is over, and the signature; its lines are a header's, each but the first after a space."""
    head, blank, message = commit.partition(b"\n\n")
    kept: list[bytes] = []
    signature: list[bytes] | None = None
    inside = False
    for line in head.split(b"\n"):
        if line.startswith(b"gpgsig "):
            signature, inside = [line.removeprefix(b"gpgsig ")], True
        elif inside and line.startswith(b" ") and signature is not None:
            signature.append(line[1:])
        else:
            inside = False
            kept.append(line)
    return b"\n".join(kept) + blank + message, None if signature is None else b"\n".join(signature)


def _git(path: Path, *arguments: str) -> bytes | None:
    # Replaced objects would show another commit than the one that was signed; a file's name is no pattern.
    environment = os.environ | {"GIT_NO_REPLACE_OBJECTS": "1", "GIT_LITERAL_PATHSPECS": "1"}
    try:
        done = subprocess.run(
            ["git", "-C", str(path.resolve().parent), "-c", "log.showSignature=false", *arguments],
            capture_output=True, timeout=_GIT_TIMEOUT_S, check=False, env=environment,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


class _Check:
    """A signature that has been read: calling it with a public key says whether that key made it."""

    def __init__(self, *signed: tuple[bytes, bytes], key: bytes | None = None) -> None:
        self._signed = signed
        self._key = key

    def __call__(self, key: bytes) -> bool:
        if self._key is not None and self._key != key:
            return False
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            for signature, message in self._signed:
                Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


def _reader(content: bytes, signature: bytes) -> _Check:
    if len(signature) > SIGNATURE_BYTES_MAX:
        raise SignatureError(f"signature of over {SIGNATURE_BYTES_MAX} bytes")
    if signature.lstrip().startswith(_SSH_BEGIN):
        return _ssh(content, signature)
    if signature.startswith(b"untrusted comment:"):
        return _minisign(content, signature)
    return _Check((_sized(_base64(signature), 64, "signature"), content))


def _minisign(content: bytes, signature: bytes) -> _Check:
    lines = signature.splitlines()
    if len(lines) < 4 or not lines[2].startswith(b"trusted comment: "):
        raise SignatureError("minisign signature of other than 4 lines")
    made = _sized(_base64(lines[1]), 74, "minisign signature")
    # "ED" signs the BLAKE2b-512 of the file, "Ed" the file itself; the last line signs both the signature and the comment.
    if made[:2] == b"ED":
        message = hashlib.blake2b(content, digest_size=64).digest()
    elif made[:2] == b"Ed":
        message = content
    else:
        raise SignatureError("minisign signature of an unknown algorithm")
    comment = lines[2].removeprefix(b"trusted comment: ")
    return _Check((made[10:], message), (_sized(_base64(lines[3]), 64, "minisign signature"), made[10:] + comment))


def _ssh(content: bytes, signature: bytes, namespaces: Collection[str] = SSH_NAMESPACES) -> _Check:
    body = signature.strip()
    if not body.startswith(_SSH_BEGIN):
        raise SignatureError("signature of another format, expected ssh's")
    if not body.endswith(_SSH_END):
        raise SignatureError("ssh signature without its end")
    blob = _base64(body.removeprefix(_SSH_BEGIN).removesuffix(_SSH_END))
    if blob[:10] != b"SSHSIG\x00\x00\x00\x01":
        raise SignatureError("ssh signature of an unknown version")
    public, namespace, reserved, algorithm, made = _ssh_strings(blob[10:], 5)
    if namespace.decode("utf-8", "replace") not in namespaces:
        raise SignatureError(f"ssh signature of another namespace, expected ssh-keygen -n {' or -n '.join(sorted(namespaces))}")
    if algorithm not in (b"sha256", b"sha512"):
        raise SignatureError("ssh signature with an unknown hash")
    kind, raw = _ssh_strings(made, 2)
    if kind != b"ssh-ed25519":
        raise SignatureError("ssh signature by other than an Ed25519 key")
    digest = hashlib.new(algorithm.decode("ascii"), content).digest()
    message = b"SSHSIG" + b"".join(len(part).to_bytes(4, "big") + part for part in (namespace, reserved, algorithm, digest))
    return _Check((_sized(raw, 64, "ssh signature"), message), key=_ssh_public(public))


def _ssh_strings(blob: bytes, count: int) -> list[bytes]:
    strings: list[bytes] = []
    for _ in range(count):
        size = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 + size or len(blob) < 4:
            raise SignatureError("ssh signature ends early")
        strings.append(blob[4 : 4 + size])
        blob = blob[4 + size :]
    return strings


def _ssh_public(blob: bytes) -> bytes:
    kind, key = _ssh_strings(blob, 2)
    if kind != b"ssh-ed25519":
        raise SignatureError("ssh key is not Ed25519")
    return _sized(key, 32, "ssh key")


def _public_key(kind: str, text: str) -> bytes:
    match kind:
        case "ssh-ed25519":
            return _ssh_public(_base64(text.encode("ascii", "replace")))
        case "minisign":
            blob = _sized(_base64(text.encode("ascii", "replace")), 42, "minisign key")
            if blob[:2] != b"Ed":
                raise SignatureError("minisign key of an unknown algorithm")
            return blob[10:]
        case "ed25519":
            return _sized(_base64(text.encode("ascii", "replace")), 32, "key")
    raise SignatureError(f"key of kind {kind}, expected ssh-ed25519, minisign or ed25519")


def _base64(text: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error as error:
        raise SignatureError("not base64") from error


def _sized(blob: bytes, size_bytes: int, what: str) -> bytes:
    if len(blob) != size_bytes:
        raise SignatureError(f"{what} of {len(blob)} bytes, expected {size_bytes}")
    return blob
