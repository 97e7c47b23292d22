"""Stacks of methods: what `one+two` is, and what its members stand on together."""

from __future__ import annotations

from collections.abc import Iterable

from pilotage.data.piece import UsageError, nearest
from pilotage.methods.method import Method, find, lineage, methods
from pilotage.run.recipe import Recipe

ALSO = {"goals": "box", "modes": "text"}  # kinds of worlds that are worlds of another kind too


def stacked(name: str, root: Recipe) -> Recipe:
    """The recipe of `one` or `one+two+…` on a root recipe: the baseline first, then each method's difference.

    The baseline of a stack is the longest of its members' lineages' common ground: each member's baseline must be an
    ancestor of the deepest one; members that others stand on anyway add nothing. Raises UsageError where two members
    set the same path to different values, or where their baselines do not meet.
    """
    members = [find(slug) for slug in split_names(name)]
    implied = {ancestor.slug for member in members for ancestor in lineage(member.slug)[:-1]}
    members = [member for member in members if member.slug not in implied]
    shared = ground(members)
    recipe = root
    for ancestor in shared:
        recipe = recipe.vary(ancestor.slug, ancestor.changes(recipe))
    own = {member.slug for member in members}
    for member in members:
        # what the others stand on, and this one does not, must not be undone by it either
        foreign = {one.slug for one in shared} - {one.slug for one in lineage(member.slug)}
        recipe = recipe.vary(member.slug, member.changes(recipe), among=frozenset(own | foreign))
    return recipe.vary("name", {"name": name})


def check_applies(name: str, kind: str) -> None:
    """Raises UsageError if a member of the stack does not apply to worlds of this kind."""
    for one in map(find, split_names(name)):
        if not {kind, ALSO.get(kind, kind)} & set(one.worlds):
            others = ", ".join(other.slug for other in methods().values() if kind in other.worlds)
            raise UsageError(
                f"{one.slug} is for worlds of kind {' or '.join(one.worlds)}; this one is {kind}, for which there are "
                f"{others}"
            )


def usual_policy(name: str) -> str:
    """The policy that a stack's members name, else what they stand on, nearest first; empty where none does."""
    lines = [lineage(slug)[::-1] for slug in split_names(name)]
    named = [one for line in lines for one in line[:1]] + [one for line in lines for one in line[1:]]
    return next((one.policy for one in named if one.policy), "")


def forms_of(*names: str) -> dict[str, float]:
    """The forms in which these methods or stacks, and what they stand on, ask problems; the largest share of each."""
    found: dict[str, float] = {}
    for one in (ancestor for name in names for slug in split_names(name) for ancestor in lineage(slug)):
        found |= {form: max(share, found.get(form, 0.0)) for form, share in one.forms.items()}
    return dict(sorted(found.items()))


def split_names(name: str) -> list[str]:
    """Slugs of a stack; a slug may itself hold `+` (reinforce++)."""
    known = sorted(methods(), key=len, reverse=True)
    found, rest = [], name.strip()
    if not rest:
        raise UsageError(f"name a method, or several as one+two; {nearest('', known)}")
    while rest:
        slug = next((s for s in known if rest == s or rest.startswith(s + "+")), None)
        if slug is None:
            find(rest.split("+")[0])  # raises, with the nearest name
            raise UsageError(f"{name!r} is not a stack of methods")
        found.append(slug)
        rest = rest[len(slug) :].removeprefix("+")
    return found


def ground(members: Iterable[Method]) -> list[Method]:
    """The lineage that the members of a stack share, from the first ancestor to what they are compared with; empty for
    a method without a baseline. Raises UsageError where they do not meet."""
    lines = [lineage(member.slug)[:-1] for member in members]
    deepest = max(lines, key=len)
    own = {member.slug for member in members}
    for line, member in zip(lines, members, strict=True):
        if line != deepest[: len(line)]:
            other = deepest[-1].slug
            raise UsageError(f"{member.slug} stands on {line[-1].slug}, not on {other}: these do not stack")
    return [ancestor for ancestor in deepest if ancestor.slug not in own]
