"""Arithmetic expressions: read exactly and without `eval`, and written in other ways that have the same value.

Imports no torch: verifier processes load this.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

LONGEST, DEEPEST = 1000, 50  # characters of an expression, and brackets and signs within one another
TOKEN = re.compile(r"\s*(?:(\d+)|([-+*/()]))", re.ASCII)


def value(text: str) -> Fraction | None:
    """The exact value of numbers with + - * / and brackets; None for whatever is no such expression, divides by zero,
    or is longer or deeper than the limits."""
    if len(text) > LONGEST:
        return None
    tokens, at = [], 0
    text = text.rstrip()
    while at < len(text):
        found = TOKEN.match(text, at)
        if found is None:
            return None
        tokens.append(found[1] or found[2])
        at = found.end()
    try:
        return _Reader(tokens).whole()
    except (_NoExpression, ZeroDivisionError):
        return None


class _NoExpression(Exception):
    pass


class _Reader:
    """Recursive descent: sums of products of signed atoms."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens, self.at, self.depth = tokens, 0, 0

    def whole(self) -> Fraction:
        found = self._sum()
        if self.at < len(self.tokens):
            raise _NoExpression
        return found

    def _next(self, *among: str) -> str:
        """The next token, taken if it is one of these; empty if not."""
        if self.at < len(self.tokens) and self.tokens[self.at] in among:
            self.at += 1
            return self.tokens[self.at - 1]
        return ""

    def _sum(self) -> Fraction:
        total = self._product()
        while sign := self._next("+", "-"):
            total += self._product() * (1 if sign == "+" else -1)
        return total

    def _product(self) -> Fraction:
        total = self._atom()
        while sign := self._next("*", "/"):
            total = total * self._atom() if sign == "*" else total / self._atom()
        return total

    def _atom(self) -> Fraction:
        self.depth += 1
        if self.depth > DEEPEST or self.at == len(self.tokens):
            raise _NoExpression
        if sign := self._next("+", "-"):
            found = self._atom() * (1 if sign == "+" else -1)
        elif self._next("("):
            found = self._sum()
            if not self._next(")"):
                raise _NoExpression
        elif self.tokens[self.at].isdigit():
            self.at += 1
            found = Fraction(int(self.tokens[self.at - 1]))
        else:
            raise _NoExpression
        self.depth -= 1
        return found


def terms_of(expression: str) -> list[int]:
    """`12+-3-5` → 12, -3, -5."""
    terms, sign, digits = [], 1, ""
    for character in expression + "+":
        if character.isdigit():
            digits += character
            continue
        if digits:
            terms.append(sign * int(digits))
            sign, digits = 1, ""
        sign = -sign if character == "-" else sign
    return terms


def written(terms: Sequence[int]) -> str:
    """12, -3, -5 → `12-3-5`; one that is not negative comes first where there is one."""
    first = next((i for i, term in enumerate(terms) if term >= 0), 0)
    ordered = [terms[first], *terms[:first], *terms[first + 1 :]]
    return str(ordered[0]) + "".join(f"{term:+d}" for term in ordered[1:])


def simpler_sum(terms: Sequence[int], rng: np.random.Generator) -> str:
    """The same sum in fewer steps: one of the two pairs of terms that are smallest together is added up, never to what
    the whole comes to. Sums of two terms are put the larger first."""
    whole = sum(terms)
    pairs = [
        (abs(one + other), i, j)
        for (i, one), (j, other) in itertools.combinations(enumerate(terms), 2)
        if one + other != whole
    ]
    if len(terms) < 3 or not pairs:
        return written(sorted(terms, reverse=True))
    _, i, j = sorted(pairs)[:2][int(rng.integers(min(2, len(pairs))))]
    return written([*terms[:i], terms[i] + terms[j], *terms[i + 1 : j], *terms[j + 1 :]])


def other_sum(terms: Sequence[int], rng: np.random.Generator) -> str:
    """The same terms in another order, where there is one."""
    before = written(terms)
    for _ in range(8):
        found = written([terms[i] for i in rng.permutation(len(terms))])
        if found != before:
            return found
    return before
