"""How worlds of text put a problem in other words. Imports no torch: verifier processes load this.

Two tables: English, and a compact one that needs no characters but those of short reasoning tasks. `{prompt}` stands
for the problem and other names in braces for what is shown with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pilotage.data.piece import UsageError, nearest

ENGLISH: Mapping[str, str] = {
    "hint": "{prompt}\n\nA right solution begins like this; go on from there: {hint}",
    "improve": "{prompt}\n\nAn earlier answer was: {answer}\nCheck it and give a better answer.",
    "diverge": "{prompt}\n\nAn earlier answer was: {answer}\nSay in short how it went about it, then take a clearly "
    "different way and answer.",
    "simplify": "Put this problem in simpler words. Task, conditions and answer stay the same; the answer is {answer}, "
    "which must not be told. Write the new problem only, between two lines of ```.\n\n{prompt}",
    "diversify": "Put this problem in quite other words. Task, conditions and answer stay the same; the answer is "
    "{answer}, which must not be told. Write the new problem only, between two lines of ```.\n\n{prompt}",
}
COMPACT: Mapping[str, str] = {
    "hint": "{prompt}{hint}",
    "improve": "{prompt}{answer}=",
    "diverge": "{prompt}{answer}==",
    "simplify": "={prompt}{answer}",
    "diversify": "=={prompt}{answer}",
}


def fill(table: Mapping[str, str], kind: str, **parts: str) -> str:
    """The phrase of a kind with its parts put in; braces inside a part stay as they are.

    Raises UsageError for a kind that the table lacks, ValueError for a name that it has no part for.
    """
    if kind not in table:
        raise UsageError(f"there is no phrase {kind!r}; {nearest(kind, table)}")

    def part(found: re.Match[str]) -> str:
        if found[1] not in parts:
            raise ValueError(f"the phrase {kind!r} needs {found[1]!r}")
        return parts[found[1]]

    return re.sub(r"\{(\w+)\}", part, table[kind])
