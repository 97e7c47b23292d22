"""What a comparison says, word for word, and what it refuses to say."""

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from pilotage.data.piece import UsageError
from pilotage.run.log import RunLog
from pilotage.run.results import RunResult, read_run
from pilotage.run.statistics import Interval
from pilotage.run.verdict import compare, rise_sentence, side
from pilotage.run.wording import Wording, duration, quantity, signed


@pytest.fixture
def run(tmp_path):
    def write(name, seed, values, *, metric="eval/accuracy", items=None, tokens=100, every=10):
        folder = tmp_path / f"{name}-{seed}-{len(list(tmp_path.iterdir()))}"
        with RunLog.create(folder, {"name": name}, name=name, seed=seed) as log:
            for i, value in enumerate(values):
                for step in range(every * (i - 1) + 1, every * i + 1):
                    used = {"count/decisions": step * tokens, "count/episodes": step * 8, "count/verdicts": step * 8}
                    log.record(step, "train", {"train/reward": 0.5, "seconds": step * 0.25, **used})
                extra = {} if items is None else {"eval/items": items[i]}
                log.record(every * i, "eval", {metric: value, **extra})
        return folder

    return write


def arms(run, a, b, **options):
    return [run("nft", s, [0.1, v], **options) for s, v in enumerate(a)], [
        run("grpo", s, [0.1, v], **options) for s, v in enumerate(b)
    ]


def test_better_by_hand(run):
    # differences 1, 2, 3 points: 2 ± 2.48 would not settle it; 10, 11, 12 do: 11 ± 2.484
    found = compare(*arms(run, [0.50, 0.61, 0.72], [0.40, 0.50, 0.60]))
    assert found.kind == "better"
    assert found.verdict == "nft is better than grpo by 11.0 points (95 % interval 8.5 to 13.5, 3 paired seeds)"
    assert found.difference.estimate == pytest.approx(0.11)
    # of nine pairs of runs seven are won and one (0.50 against 0.50) is a tie
    assert found.improvement.estimate == pytest.approx(7.5 / 9)
    assert not found.improvement.known
    assert any("3 seeds are few" in note for note in found.notes)


def test_worse_is_said_as_a_positive_amount(run):
    found = compare(*arms(run, [0.40, 0.50, 0.60], [0.50, 0.61, 0.72]))
    assert found.verdict == "nft is worse than grpo by 11.0 points (95 % interval 8.5 to 13.5, 3 paired seeds)"


def test_no_difference_shown(run):
    found = compare(*arms(run, [0.51, 0.62, 0.73], [0.50, 0.60, 0.70]))
    assert found.verdict == (
        "no difference shown: nft minus grpo is 2.0 points "
        "(95 % interval of the difference −0.5 to 4.5 points, 3 paired seeds)"
    )


def test_many_seeds_give_an_interval_on_the_chance_too(run):
    found = compare(*arms(run, np.linspace(0.5, 0.6, 6), np.linspace(0.45, 0.55, 6)))
    assert found.improvement.known
    assert not any("few" in note for note in found.notes)


def test_two_seeds_are_called_only_two(run):
    found = compare(*arms(run, [0.5, 0.6], [0.4, 0.5]))
    assert "only 2 paired seeds" in found.verdict
    assert any("no width" in note for note in found.notes)


def test_the_same_result_everywhere(run):
    found = compare(*arms(run, [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]))
    assert found.kind == "no difference shown"
    assert found.improvement.estimate == 0.5


def test_one_seed_gives_no_verdict(run):
    found = compare(*arms(run, [0.5], [0.4]))
    assert found.kind == "undecided"
    assert found.verdict == (
        "no verdict: nft ended 10.0 points above grpo, but one seed each cannot tell a better method from luck"
    )
    assert found.to_json()["difference"] == {"estimate": pytest.approx(0.1), "low": None, "high": None, "level": 0.95}
    assert ("held-out accuracy, end", "50.0 % (no interval)", "40.0 % (no interval)", "+10.0 points (no interval)") in (
        found.rows()
    )


def test_a_run_that_broke_is_not_left_out_silently(run):
    found = compare(*arms(run, [0.9, 0.9, math.nan], [0.1, 0.2, 0.15]))
    assert found.kind == "undecided"
    assert "nft seed 2 is not finite" in found.verdict
    json.dumps(found.to_json(), allow_nan=False)


def test_pairs_are_made_by_seed_not_by_order(run):
    a, b = arms(run, [0.50, 0.61, 0.72], [0.40, 0.50, 0.60])
    assert compare(a[::-1], b).difference == compare(a, b).difference
    alone = compare([*a, run("nft", 9, [0, 1])], b)
    assert alone.candidate.seeds == (0, 1, 2)
    assert alone.notes[0] == "Left out, for want of a partner: nft seed 9."
    with pytest.raises(UsageError, match="seed 0 occurs twice"):
        compare([*a, run("nft", 0, [0, 1])], b)
    with pytest.raises(UsageError, match="no seed in common"):
        compare(a[:1], b[1:])


def test_metrics_must_agree(run):
    with pytest.raises(UsageError, match="eval/accuracy, eval/return"):
        compare([run("a", 0, [1, 2])], [run("b", 0, [1, 2], metric="eval/return")])


def test_returns_are_plain_numbers(run):
    found = compare(*arms(run, [110, 121, 132], [100, 110, 120], metric="eval/return"))
    assert found.verdict == "nft is better than grpo by 11 (95 % interval 8.516 to 13.48, 3 paired seeds)"


def test_rise_best_and_compute(run):
    a = [run("nft", s, [0.1, 0.8, 0.5 + s / 100], tokens=150) for s in range(3)]
    b = [run("grpo", s, [0.2, 0.3, 0.4 + s / 100]) for s in range(3)]
    found = compare(a, b)
    assert found.candidate.rise.estimate == pytest.approx(0.41)
    assert found.candidate.best.estimate == pytest.approx(0.8)
    assert found.difference_rise.estimate == pytest.approx(0.2)
    used = found.candidate.compute
    assert (used.steps, used.decisions, used.episodes, used.verdicts, used.seconds) == (20, 3000, 160, 160, 5)
    assert "Unequal compute: nft used × 1.50 the decisions of grpo." in found.notes
    assert ("decisions (tokens, actions)", "3 000", "2 000", "× 1.50") in found.compute_rows()


def test_runs_of_different_length_are_noted(run):
    found = compare([run("a", 0, [0, 1, 1]), run("a", 1, [0, 1])], [run("b", s, [0, 1]) for s in (0, 1)])
    assert any("same step: 10, 20" in note for note in found.notes)


def test_intervals_of_shares_stay_within_them(run):
    found = compare(*arms(run, [0.9, 1.0, 1.0], [0.0, 0.0, 0.1]))
    assert found.candidate.final.high == 1
    assert found.baseline.final.low == 0


def test_items_are_used_and_may_disagree(run):
    rng = np.random.default_rng(0)
    a, b = [], []
    for seed in range(3):
        base = (rng.random(40) < 0.5).astype(float)
        better = base.copy()
        better[0] = base[0] + 3  # one item alone makes the difference
        a.append(run("nft", seed, [0.1, better.mean()], items=[base, better]))
        b.append(run("grpo", seed, [0.1, base.mean()], items=[base, base]))
    found = compare(a, b)
    assert found.difference_over_items.estimate == pytest.approx(3 / 40)
    assert found.difference_over_items.low == 0
    assert found.kind == "no difference shown"
    assert "interval of the difference 7.5 to 7.5 points, but over seeds and held-out items 0.0 to" in found.verdict


def test_seeds_that_share_their_luck_show_no_rise(run):
    """Ten items, judged by chance alone, the same chance in every seed: an interval over seeds has no width."""
    before, after = np.array([1.0, 0, 1, 0, 1, 1, 0, 1, 0, 1]), np.array([0.0, 1, 0, 0, 1, 0, 1, 0, 0, 0])
    folders = [run("a", s, [before.mean(), after.mean()], items=[before, after]) for s in range(3)]
    arm = side("a", [read_run(folder) for folder in folders])
    assert (arm.rise.low, arm.rise.high) == pytest.approx((-0.3, -0.3))
    assert "no change shown, −30.0 points" in rise_sentence(arm, "eval/accuracy")


def test_one_run_is_judged_over_its_items(run):
    items = [np.zeros(50), (np.arange(50) % 2).astype(float)]
    arm = side("a", [read_run(run("a", 0, [0.0, 0.5], items=items))])
    text = rise_sentence(arm, "eval/accuracy")
    assert text.startswith("a went from 0.0 to 50.0 % of held-out accuracy: a rise, +50.0 points (95 % interval ")
    assert text.endswith("over held-out items; one seed)")


def test_items_without_a_score_are_left_out_on_both_sides(run):
    gap = [None, 1.0, 0.0, 1.0]
    a = [run("a", s, [0, 1], items=[gap, gap]) for s in range(2)]
    b = [run("b", s, [0, 1], items=[[0.0] * 4] * 2) for s in range(2)]
    assert compare(a, b).difference_over_items.estimate == pytest.approx(2 / 3)


def test_table_is_drawn(run):
    found = compare(*arms(run, [0.50, 0.61, 0.72], [0.40, 0.50, 0.60]))
    out = io.StringIO()
    Console(file=out, width=140).print(found.table())
    assert "held-out accuracy, end" in out.getvalue()
    assert "+11.0 points (8.5 to 13.5)" in out.getvalue()
    assert "reward calls" in out.getvalue()


def test_a_run_alone_against_its_start(run):
    runs = [read_run(run("nft", s, [0.1, 0.5 + s / 100])) for s in range(3)]
    text = rise_sentence(side("nft", runs), "eval/accuracy")
    assert text == (
        "nft went from 10.0 to 51.0 % of held-out accuracy: "
        "a rise, +41.0 points (95 % interval 38.5 to 43.5 over seeds; 3 seeds)"
    )
    assert "one seed gives no interval" in rise_sentence(side("nft", runs[:1]), "eval/accuracy")


def test_axes_of_an_evaluation(run):
    result = read_run(run("a", 0, [0.1, 0.2, 0.3]))
    assert result.axis("step").tolist() == [0, 10, 20]
    assert result.axis("count/decisions").tolist() == [0, 1000, 2000]
    assert result.axis("seconds").tolist() == [0, 2.5, 5]


def test_runs_without_evaluation_are_refused(tmp_path):
    RunLog.create(tmp_path / "run", {}).close()
    with pytest.raises(UsageError, match="has no evaluation yet"):
        read_run(tmp_path / "run")


def test_numbers_in_words():
    assert [quantity(n) for n in (0, 950, 1234, 12_345, 999_999, 4_560_000, 2e9, math.nan)] == [
        "0", "950", "1 234", "12.3 k", "1 M", "4.56 M", "2 G", "–"
    ]  # fmt: skip
    assert [duration(s) for s in (0.5, 41, 200, 720, 11_100)] == ["0.5 s", "41 s", "3.3 min", "12 min", "3 h 05 min"]
    say = Wording("eval/accuracy")
    assert say.change(Interval(-0.00001, -0.01, 0.01)) == "0.0 points (−1.0 to 1.0)"
    assert Wording("eval/return").value(Interval(-12.345, -20, -1)) == "−12.35 (−20 to −1)"
    assert signed(Interval(1.25, -0.4, 2.1), 2, " nats") == "+1.25 nats (−0.40 to 2.10)"
    assert signed(Interval(1.25, math.nan, math.nan), 0) == "+1 (no interval)"


def test_a_name_that_training_tells_too_is_read_from_evaluations():
    told = [("eval", 0, 0.2), ("train", 1, 0.9), ("train", 2, 0.8), ("eval", 2, 0.4)]
    records = [{"kind": kind, "step": step, "mode/instant": value} for kind, step, value in told]
    run = RunResult(Path(), "a", 0, "mode/instant", records, {}, {})
    assert (run.steps.tolist(), run.values.tolist()) == ([0, 2], [0.2, 0.4])
    alone = RunResult(Path(), "a", 0, "mode/instant", [r for r in records if r["kind"] == "train"], {}, {})
    assert alone.values.tolist() == [0.9, 0.8]
