"""Expressions read exactly and without eval, and rewritten so that their value stays."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotage.worlds.arithmetic import DEEPEST, LONGEST, other_sum, simpler_sum, terms_of, value, written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", 7),
        ("12+34-5", 41),
        ("12+-3-5", 4),
        ("-3+4", 1),
        ("2+3*4", 14),
        ("(2+3)*4", 20),
        ("8-3-2", 3),
        ("8/4/2", 1),
        ("1/3", Fraction(1, 3)),
        ("2*-3", -6),
        ("--4", 4),
        (" 1 + 2 ", 3),
        ("(((1)))", 1),
        ("-(2-5)", 3),
        ("9" * 400, int("9" * 400)),
    ],
)
def test_values_are_exact(text, expected):
    assert value(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "+", "1+", "*3", "1 2", "(1", "1)", "()", "1//2", "2**3", "1=1", "1/0", "3/(2-2)", "x", "0x10", "1.5",
        "1e3", "1_0", "١+٢", "1+2;3", "print(1)", "(" * (DEEPEST + 1) + "1" + ")" * (DEEPEST + 1), "-" * 100 + "1",
        "1+" * LONGEST + "1", "(" * 10**6,
    ],
)  # fmt: skip
def test_whatever_is_no_expression_has_no_value(text):
    assert value(text) is None


sums = st.lists(st.integers(-99, 99), min_size=1, max_size=7)


@given(sums, st.integers(0, 2**32))
def test_rewritten_sums_keep_their_value(terms, seed):
    rng = np.random.default_rng(seed)
    for text in (written(terms), simpler_sum(terms, rng), other_sum(terms, rng)):
        assert value(text) == sum(terms)
        assert sum(terms_of(text)) == sum(terms)


@given(sums, st.integers(0, 2**32))
def test_a_simpler_sum_has_a_term_less_and_never_the_answer_in_its_place(terms, seed):
    found = terms_of(simpler_sum(terms, np.random.default_rng(seed)))
    if len(found) == len(terms):
        assert sorted(found) == sorted(terms)
    else:
        assert len(found) == len(terms) - 1
        new = [term for term in found if found.count(term) > terms.count(term)]
        assert sum(terms) not in new


@given(sums, st.integers(0, 2**32))
def test_another_order_has_the_same_terms(terms, seed):
    assert sorted(terms_of(other_sum(terms, np.random.default_rng(seed)))) == sorted(terms)


def test_by_hand():
    rng = np.random.default_rng(0)
    assert written([-3, 4, 5]) == "4-3+5"
    assert written([-3, -4]) == "-3-4"
    assert simpler_sum([3, 18], rng) == "18+3"
    assert {simpler_sum([30, 8, -7, 50], np.random.default_rng(seed)) for seed in range(20)} == {"30+1+50", "23+8+50"}
    assert {other_sum([1, 2], np.random.default_rng(seed)) for seed in range(20)} == {"2+1"}
    assert other_sum([4, 4], rng) == "4+4"
