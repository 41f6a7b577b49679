"""The declared hops as a table: Markdown for a review, CSV for a register."""

import csv
import io

from hopwatch.declared.explain import shared_limits
from hopwatch.declared.model import Architecture

COLUMNS = (
    "hop",
    "who",
    "from",
    "to",
    "via",
    "may",
    "what",
    "without",
    "classes",
    "when",
    "limit",
    "shared limits",
    "transit",
    "keep",
    "until",
    "ticket",
    "why",
)


def rows(architecture: Architecture) -> list[tuple[str, ...]]:
    """One row for each hop in file order, in the words of the file; what a hop inherits is shown as it holds."""
    return [
        (
            name,
            hop.who,
            ", ".join(hop.from_),
            ", ".join(hop.to),
            hop.via or "",
            ", ".join(hop.may),
            ", ".join(hop.what),
            ", ".join(hop.without),
            ", ".join(architecture.hop_classes(hop)),
            str(hop.when or "any time"),
            ", ".join(map(str, hop.limit)),
            "; ".join(shared_limits(architecture, hop)),
            architecture.hop_transit(hop),
            str(hop.keep),
            str(architecture.hop_until(hop)),
            (hop.approved.ticket or "") if hop.approved else "",
            hop.why,
        )
        for name, hop in architecture.hops.items()
    ]


def markdown(architecture: Architecture) -> str:
    """A Markdown table headed by what it was made from."""

    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    head = heading(architecture)
    return "\n".join([head, "", line(COLUMNS), "|" + " --- |" * len(COLUMNS), *map(line, rows(architecture))]) + "\n"


def comma_separated(architecture: Architecture) -> str:
    """The table as CSV (RFC 4180)."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    # A spreadsheet runs a cell that starts like a formula; the quote makes it text.
    writer.writerows([f"'{cell}" if cell[:1] in "=+-@" and cell else cell for cell in row] for row in rows(architecture))
    return out.getvalue()


def heading(architecture: Architecture) -> str:
    """Which declaration this is, and whether it was approved."""
    said = architecture.declaration
    commit = f"commit {said.commit}" if said.commit else "no commit"
    return f"{said.plant} v{said.version}, {commit}, {'signed' if said.signed else 'UNSIGNED'}"
