"""What documents show of the code, brought up to date: `python docs/refresh.py [--check]`.

Tables of methods in README.md and docs/methods.md, and blocks under `<!-- file: PATH -->`, which are those files.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pilotage import recorded
from pilotage.methods.method import Method, methods

ROOT = Path(__file__).parents[1]
START, END = "<!-- methods: start -->", "<!-- methods: end -->"
SHOWN = re.compile(r"(<!-- file: (\S+) -->\n```\w+\n).*?^```$", re.M | re.S)


def cell(text: str) -> str:
    """A text that cannot end a cell."""
    return " ".join(text.split()).replace("|", "\\|")


def drawn(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def source(method: Method) -> str:
    """Where a method stands in the repository."""
    return f"src/{method.changes.__module__.replace('.', '/')}.py"


def short(found: Sequence[Method]) -> str:
    """What each is, for the README."""
    rows = [
        [f"`{one.slug}`", cell(one.line), f"`{one.baseline}`" if one.baseline else "–", recorded.status(one.slug)]
        for one in found
    ]
    return drawn(["name", "what it is", "differs from", "status"], rows)


def full(found: Sequence[Method]) -> str:
    """Everything there is to say in a row, for docs/methods.md."""
    rows = [
        [
            f"[`{one.slug}`](../{source(one)})",
            one.family,
            cell(one.line),
            ", ".join(one.parts),
            f"`{one.baseline}`" if one.baseline else "–",
            cell(one.paper),
            cell(one.claim) or "–",
            "; ".join(f"[{cell(line)}](results.md)" for line in recorded.results(one.slug)) or "–",
            recorded.status(one.slug),
        ]
        for one in found
    ]
    return drawn(
        ["name", "family", "what it is", "changes", "differs from", "paper", "its claim", "recorded", "status"], rows
    )


def tables(draw: Callable[[Sequence[Method]], str]) -> str:
    """Methods, then baselines."""
    found = list(methods().values())
    parts = [
        f"**{title}**\n\n{draw([one for one in found if one.kind == kind])}"
        for kind, title in (("method", "Methods"), ("baseline", "Baselines"))
    ]
    return "\n\n".join(parts)


def page(path: Path) -> str:
    """The page as it should be."""
    text = path.read_text(encoding="utf-8")
    text = SHOWN.sub(lambda found: f"{found[1]}{(ROOT / found[2]).read_text(encoding='utf-8')}```", text)
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    table = tables(short if path.name == "README.md" else full) if start else ""
    return f"{before}{START}\n\n{table}\n\n{END}{after}" if start and end else text


def main() -> int:
    """Writes what is out of date, or with --check only says so."""
    stale = 0
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))):
        fresh = page(path)
        if fresh == path.read_text(encoding="utf-8"):
            continue
        if "--check" in sys.argv[1:]:
            print(f"{path.relative_to(ROOT)} is out of date: python docs/refresh.py", file=sys.stderr)
            stale = 1
        else:
            path.write_text(fresh, encoding="utf-8")
    return stale


if __name__ == "__main__":
    sys.exit(main())
