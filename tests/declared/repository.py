"""A plant's repository with people who write and people who approve."""

import subprocess
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from hopwatch.declared.load import load
from hopwatch.declared.model import Declaration

TEXT = (Path(__file__).parents[2] / "examples" / "plant-north.yaml").read_text("utf-8")


@dataclass(frozen=True)
class Plant:
    """A repository, the keys of two people, and the file of approvers, which lies outside it."""

    repository: Path
    keys: Path
    approvers: Path

    @property
    def path(self) -> Path:
        return self.repository / "plant-north.yaml"

    def git(self, *arguments: str, by: str = "a.ruiz", key: str | None = None) -> str:
        who = ["-c", f"user.name={by}", "-c", f"user.email={by}@example.com", "-c", "gpg.format=ssh"]
        who += ["-c", f"commit.gpgsign={'false' if key is None else 'true'}", "-c", f"user.signingkey={self.keys / (key or 'none')}"]
        done = subprocess.run(["git", "-C", self.repository, *who, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self, text: str, *arguments: str, by: str = "a.ruiz", key: str | None = None) -> None:
        self.path.write_text(text, "utf-8")
        self.git("add", self.path.name)
        self.git("commit", "-q", "-m", "plant: change", *arguments, by=by, key=key)

    def declaration(self) -> Declaration:
        return load(self.path, at=date(2026, 4, 7), approvers=self.approvers).declaration

    def git_verifies(self) -> bool:
        """What git itself says of the last commit, with the same keys."""
        allowed = self.keys / "allowed"
        allowed.write_text(f"h.keller@example.com {(self.keys / 'keller.pub').read_text()}")
        done = subprocess.run(
            ["git", "-C", self.repository, "-c", f"gpg.ssh.allowedSignersFile={allowed}", "verify-commit", "HEAD"],
            capture_output=True, check=False,
        )  # fmt: skip
        return done.returncode == 0


def repository(tmp_path: Path) -> Plant:
    """An empty repository with the keys of h.keller, who approves, and of a.ruiz, who does not."""
    made = Plant(tmp_path / "plant", tmp_path / "keys", tmp_path / "approvers")
    made.repository.mkdir()
    made.keys.mkdir()
    for name in ("keller", "ruiz"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", made.keys / name], check=True)
    made.approvers.write_text(f"h.keller,h.keller@example.com {(made.keys / 'keller.pub').read_text()}")
    made.git("init", "-q", "-b", "main")
    return made
