"""How different several answers to one problem are, on their token ids: 0 for copies of one answer, and larger the
less they share.

Answers come ragged, without padding: padded, they would share what is not there, the more the longer the longest is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

Answer = Sequence[int]
ORDERS = 3  # of n-grams


def grams(answer: Answer, order: int) -> Counter[tuple[int, ...]]:
    """How often each n-gram of this order occurs."""
    return Counter(tuple(answer[i : i + order]) for i in range(len(answer) - order + 1))


def distinct(answers: Sequence[Answer], order: int = ORDERS) -> float:
    """Different n-grams over all n-grams of all answers together: 1/N for N copies of one answer; 0 where all are
    shorter than that."""
    counts = Counter[tuple[int, ...]]()
    for answer in answers:
        counts.update(grams(answer, order))
    return len(counts) / counts.total() if counts else 0.0


def one_less_self_bleu(answers: Sequence[Answer]) -> float:
    """1 less the mean BLEU of each answer against all others, with orders 1 to 3 alike: 0 for copies of one answer.

    Papineni et al. 2002; an order without a match counts 0.1 of one (method 1 of Chen and Cherry 2014), and orders
    longer than the answer are left out, so that two equal short ones are equal. The released code of MMR1 adds
    self-BLEU itself, which is high where answers are alike: the opposite of what its text asks for.
    """
    if len(answers) < 2:
        return 0.0
    found = [bleu(answer, [*answers[:i], *answers[i + 1 :]]) for i, answer in enumerate(answers)]
    return 1.0 - sum(found) / len(found)


def bleu(answer: Answer, references: Sequence[Answer], orders: int = ORDERS) -> float:
    """How much of an answer stands in references: the geometric mean of n-gram precisions, over the brevity penalty."""
    if not answer:
        return float(any(not reference for reference in references))
    total, used = 0.0, min(orders, len(answer))
    for order in range(1, used + 1):
        mine = grams(answer, order)
        most = Counter[tuple[int, ...]]()
        for reference in references:
            most |= grams(reference, order)
        matched = sum((mine & most).values())
        total += math.log((matched or 0.1) / mine.total())
    closest = min((abs(len(reference) - len(answer)), len(reference)) for reference in references)[1]
    brevity = 1.0 if len(answer) >= closest else math.exp(1 - closest / len(answer))
    return brevity * math.exp(total / used)


def edits(answers: Sequence[Answer]) -> float:
    """The mean over pairs of the squared edit distance, each as a share of the longer answer's length.

    The report's appendix: 1 / (K (K - 1)) Σ d². The released code takes the plain distance, which is in the hundreds
    where the outcome's variance is at most 1/4.
    """
    pairs = list(combinations(answers, 2))
    if not pairs:
        return 0.0
    return sum((edit_distance(a, b) / max(len(a), len(b), 1)) ** 2 for a, b in pairs) / len(pairs)


def edit_distance(one: Answer, other: Answer) -> int:
    """The fewest insertions, deletions and replacements between two answers. Levenshtein 1966."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


MEASURES: Mapping[str, Callable[[Sequence[Answer]], float]] = {
    "distinct-3": distinct,
    "one-less-self-bleu": one_less_self_bleu,
    "edits": edits,
}
