"""A declaration as an event: made where a person applies it, opened where detectors judge by it.

The event holds the file's bytes and everything its approval rests on, so that whoever reads it needs neither the file nor its
repository, and trusts only the approver keys of its own host. A detached signature is carried as it is. A signed commit names
the file by hashes alone (commit, its tree, the trees below, the file), so those objects travel along, and each is held to the
hash that names it. What cannot be proven is the list of authors: it is the word of the host that applied the file, to which
the signature's own rule (an approver is none of the authors) is only as strong.
"""

import base64
import binascii
import hashlib
import zlib
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from hopwatch.declared.load import FILE_BYTES_MAX, approved, decoded, judge, loads, read
from hopwatch.declared.model import Architecture
from hopwatch.declared.problem import ArchitectureError, Problem
from hopwatch.declared.sign import (
    SIGNATURE_BYTES_MAX,
    SignedCommit,
    commit_objects,
    git_authors,
    signature_path,
    signed_commits,
    split_commit,
    verify_all,
)
from hopwatch.events import CommitProof, DeclaredEdition

PLAIN_BYTES_MAX = 256 * 1024
"""A longer declaration travels packed: an event has at most 1 MiB."""


def edition_of(
    path: Path, time: str, *, allowed: Sequence[str] = (), at: date | None = None, approvers: Path | None = None
) -> tuple[DeclaredEdition, Architecture]:
    """The declaration at ``path`` as an event of ``time``, and as what it declares.

    Raises:
        ArchitectureError: the file cannot be read or breaks a rule; holds every error found.
    """
    content = read(path)
    architecture, verdict = judge(path, content, at, approvers)
    try:
        signature = signature_path(path).read_bytes()[: SIGNATURE_BYTES_MAX + 1].decode("ascii", "replace")
    except OSError:
        signature = None
    digest = hashlib.sha256(content).hexdigest()
    plain = len(content) <= PLAIN_BYTES_MAX
    edition = DeclaredEdition(
        event_id=hashlib.blake2b(f"{architecture.plant}\0{architecture.version}\0{digest}\0{time}".encode(), digest_size=16).hexdigest(),
        plant=architecture.plant,
        version=architecture.version,
        time=time,
        file=path.name,
        digest=digest,
        content=decoded_whole(content) if plain else None,
        packed=None if plain else base64.b64encode(zlib.compress(content, 9)).decode("ascii"),
        commit=architecture.declaration.commit,
        signed=verdict.signed,
        signer=verdict.approver if verdict.signed else None,
        approval=verdict.why,
        signature=signature,
        authors=list(git_authors(path)),
        commits=[proof for one in signed_commits(path, content) if (proof := _proof(path, one)) is not None],
        allowed=list(allowed),
    )
    return edition, approved(architecture, verdict)


def architecture_of(edition: DeclaredEdition, *, at: date | None = None, approvers: Path | None = None) -> Architecture:
    """What an edition declares; whether it is signed is found anew with the approver keys of this host.

    Raises:
        ArchitectureError: it does not hold the bytes it names, is of another plant or version than it says, or breaks a rule.
    """
    content = content_of(edition)
    architecture = loads(decoded(content, edition.file), edition.file, commit=edition.commit, at=at)
    if (architecture.plant, architecture.version) != (edition.plant, edition.version):
        raise _refused(
            edition, f"holds version {architecture.version} of {architecture.plant}, expected {edition.version} of {edition.plant}"
        )
    signature = None if edition.signature is None else edition.signature.encode("utf-8", "replace")
    commits = [commit for proof in edition.commits if (commit := _proven(proof, content)) is not None]
    return approved(architecture, verify_all(content, signature, commits, edition.authors or [architecture.owner], approvers))


def content_of(edition: DeclaredEdition) -> bytes:
    """The bytes of the declaration.

    Raises:
        ArchitectureError: they are not there, too many, or not those that were digested.
    """
    if edition.content is not None:
        content = edition.content.encode("utf-8", "surrogatepass")
    elif edition.packed is not None:
        try:
            unpacker = zlib.decompressobj()
            content = unpacker.decompress(base64.b64decode(edition.packed, validate=True), FILE_BYTES_MAX + 1)
        except (binascii.Error, zlib.error) as error:
            raise _refused(edition, "packed: neither base64 nor zlib") from error
    else:
        raise _refused(edition, "holds no declaration: neither content nor packed")
    if len(content) > FILE_BYTES_MAX:
        raise _refused(edition, f"declaration of over {FILE_BYTES_MAX} bytes")
    if hashlib.sha256(content).hexdigest() != edition.digest:
        raise _refused(edition, "holds other bytes than those it was made of: the digest differs")
    return content


def decoded_whole(content: bytes) -> str:
    """The text whose UTF-8 is these bytes, a byte order mark kept: the signature is over it too."""
    return content.decode("utf-8")


def _refused(edition: DeclaredEdition, why: str) -> ArchitectureError:
    return ArchitectureError([Problem(edition.file, 1, 1, (), f"edition {edition.event_id[:8]} {why}", "edition")])


def _proof(path: Path, commit: SignedCommit) -> CommitProof | None:
    objects = commit_objects(path, commit.id)
    if objects is None:
        return None
    place, whole, trees = objects
    return CommitProof(
        id=commit.id,
        path=place,
        content=base64.b64encode(whole).decode("ascii"),
        trees=[base64.b64encode(tree).decode("ascii") for tree in trees],
        authors=list(commit.authors),
    )


def _proven(proof: CommitProof, content: bytes) -> SignedCommit | None:
    """The commit, if its objects lead to ``content`` by their hashes."""
    try:
        whole = base64.b64decode(proof.content, validate=True)
        trees = [base64.b64decode(tree, validate=True) for tree in proof.trees]
    except binascii.Error:
        return None
    payload, signature = split_commit(whole)
    first = payload.split(b"\n", 1)[0]
    if signature is None or not first.startswith(b"tree ") or _hash(b"commit", whole, len(proof.id)) != proof.id:
        return None
    # What the signature is over names the root; every tree names the next.
    wanted = first.removeprefix(b"tree ").decode("ascii", "replace")
    names = proof.path.split("/")
    if len(trees) != len(names):
        return None
    for tree, name in zip(trees, names, strict=True):
        if _hash(b"tree", tree, len(wanted)) != wanted:
            return None
        found = _entry(tree, name.encode("utf-8", "surrogateescape"), len(wanted) // 2)
        if found is None:
            return None
        wanted = found
    if _hash(b"blob", content, len(wanted)) != wanted:
        return None
    return SignedCommit(proof.id, payload, signature, tuple(proof.authors))


def _hash(kind: bytes, content: bytes, hex_digits: int) -> str:
    """git's name for an object, in the hash of its repository: SHA-1 or SHA-256."""
    digest = hashlib.sha256 if hex_digits == 64 else hashlib.sha1
    return digest(kind + b" %d\0" % len(content) + content).hexdigest()


def _entry(tree: bytes, name: bytes, hash_bytes: int) -> str | None:
    """The hash under ``name`` in a tree object: ``mode SP name NUL hash``, again and again."""
    place = 0
    while place < len(tree):
        end = tree.find(b"\0", place)
        if end < 0 or end + 1 + hash_bytes > len(tree):
            return None
        _, _, found = tree[place:end].partition(b" ")
        if found == name:
            return tree[end + 1 : end + 1 + hash_bytes].hex()
        place = end + 1 + hash_bytes
    return None
