"""The benchmark harness's pure parts: counting, ratios, the choice of rows, the page. Nothing is timed here."""

import importlib
import itertools
import re
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _root_on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture
def arithmetic():
    return importlib.import_module("benchmarks.arithmetic")


@pytest.fixture
def measure():
    return importlib.import_module("benchmarks.measure")


@pytest.fixture
def rows():
    return importlib.import_module("benchmarks.rows")


@pytest.fixture
def table():
    return importlib.import_module("benchmarks.table")


class TestArithmetic:
    def test_a_network_is_its_products(self, arithmetic):
        assert arithmetic.network([4, 64, 64, 2]) == 4 * 64 + 64 * 64 + 64 * 2

    def test_training_a_network_is_what_torch_counts(self, arithmetic):
        sizes, count = [17, 64, 64, 6], 8
        layers = torch.nn.Sequential(*(torch.nn.Linear(a, b) for a, b in itertools.pairwise(sizes)))
        with FlopCounterMode(display=False) as counter:
            layers(torch.randn(count, sizes[0])).sum().backward()
        assert counter.get_total_flops() == 2 * count * arithmetic.network_training(sizes)

    def test_ppo_acts_values_and_trains_each_decision(self, arithmetic):
        actor, critic = 4 * 64 + 64 * 64 + 64 * 2, 4 * 64 + 64 * 64 + 64
        trained = 3 * (actor + critic) - 2 * 4 * 64
        assert arithmetic.actor_critic(4, 2, (64, 64), 4) == actor + critic + 4 * trained

    @pytest.mark.parametrize(("soft", "outputs"), [(True, 12), (False, 6)])
    def test_an_update_with_action_critics_by_hand(self, arithmetic, soft, outputs):
        h = 16
        actor, critic, first = 17 * h + h * h + h * outputs, 23 * h + h * h + h, 17 * h
        target, learnt = actor + 2 * critic, 2 * (3 * critic - 23 * h)
        acted = 3 * actor - first + (2 if soft else 1) * critic + critic - first
        found = arithmetic.action_critics(17, 6, (h, h), soft=soft)
        assert found == target + learnt + (acted if soft else acted // 2)

    def test_a_forward_pass_by_hand(self, arithmetic):
        shape = arithmetic.Transformer(hidden=8, layers=2, intermediate=32, vocabulary=10)
        linear = 4 * 64 + 3 * 8 * 32
        # positions 3 and 4 attend to 4 and 5 positions, with one product for scores and one for values
        assert shape.forward(3, 5, 1) == 2 * (2 * linear + 2 * 8 * (4 + 5)) + 8 * 10

    def test_parts_of_a_sequence_add_up(self, arithmetic):
        shape = arithmetic.Transformer(8, 3, 16, 11)
        assert shape.forward(0, 4, 0) + shape.forward(4, 9, 5) == shape.forward(0, 9, 5)

    def test_generation_reads_a_prompt_once_for_its_group(self, arithmetic):
        shape = arithmetic.Transformer(8, 1, 16, 11)
        one, two = shape.generation([5], [1]), shape.generation([5], [1, 1])
        assert two - one == 8 * 11
        assert shape.generation([5], [3]) == shape.forward(0, 7, 3)

    def test_training_reads_it_for_each_completion(self, arithmetic):
        shape = arithmetic.Transformer(8, 1, 16, 11)
        assert shape.training([5], [3, 3]) == 2 * 3 * shape.forward(0, 7, 3)


class TestMeasure:
    def test_a_ratio_is_of_medians_and_its_spread_of_pairs(self, measure):
        found = measure.ratio([10.0, 20.0, 60.0], [5.0, 20.0, 10.0])
        assert found == measure.Ratio(2.0, 1.0, 6.0)

    @pytest.mark.parametrize(("ours", "peer"), [([], []), ([1.0], [1.0, 2.0])])
    def test_uneven_or_no_repeats_have_no_ratio(self, measure, ours, peer):
        with pytest.raises(ValueError, match=r"at least one|shorter|longer"):
            measure.ratio(ours, peer)

    def test_the_share_of_the_limit(self, measure):
        repeat = measure.Measured(amount=1, seconds=2.0, cpu_seconds=2.0, multiply_adds=25e9)
        assert measure.share_of_limit([repeat], gigaflops=50) == pytest.approx(0.5)
        assert measure.share_of_limit([measure.Measured(1, 1, 1)], gigaflops=50) is None

    def test_a_summary_in_seconds(self, measure):
        found = measure.summary([measure.Measured(2, 1.0, 0.5)], gigaflops=1, kind="seconds")
        assert (found["median"], found["median_by_processor_time"]) == (0.5, 0.25)

    def test_a_summary_of_memory_is_of_amounts(self, measure):
        found = measure.summary([measure.Measured(n, 1.0, 0.5) for n in (2, 9, 3)], gigaflops=1, kind="memory")
        assert (found["median"], found["repeats"]) == (3, [2, 9, 3])


class TestRows:
    def test_names_are_distinct_and_sides_are_modules_of_the_harness(self, rows):
        assert len({row.name for row in rows.ROWS}) == len(rows.ROWS)
        for row in rows.ROWS:
            for path in filter(None, (row.ours, row.peer)):
                module, name = re.fullmatch(r"benchmarks\.(\w+):(\w+)", path).groups()
                assert f"def {name}(" in (ROOT / "benchmarks" / f"{module}.py").read_text(encoding="utf-8")

    def test_rows_are_chosen_by_how_their_names_start(self, rows):
        assert [row.name for row in rows.chosen(["grpo"])] == ["grpo-step-0.14M", "grpo-step-1M"]
        assert rows.chosen([]) == list(rows.ROWS)
        with pytest.raises(ValueError, match=r"no row starts with 'dqn'; there are ppo-cartpole"):
            rows.chosen(["dqn"])

    def test_targets_point_the_right_way(self, rows):
        assert rows.find("ppo-cartpole").met(2.0)
        assert rows.find("ppo-cartpole").met(1.99) is False
        assert rows.find("import").met(0.5)
        assert rows.find("import").met(0.51) is False
        assert rows.find("stepping-cartpole").met(0.1) is None
        assert rows.find("logprob-memory").met(0.6)
        assert rows.find("logprob-memory").met(0.61) is False


def test_the_reward_and_prompts_are_the_same_for_both_sides():
    sums = importlib.import_module("benchmarks.sums")
    assert sums.reward("ab1 ") == 0.5
    assert sums.reward("") == 0.0
    world = sums.Sums()
    task = world.task(0, "train")
    assert set(task.prompt) <= set(sums.ALPHABET)
    assert world.verify(task, "a+") == 0.5


@pytest.mark.parametrize("ends", [True, False])
def test_lengths_of_the_benchmark_model_are_heavy_tailed_or_fixed(ends):
    tiny, language = (importlib.import_module(f"benchmarks.{name}") for name in ("tiny", "language"))
    policy = tiny.make("0.14M", ends=ends)
    asked = [torch.tensor(policy.encode(text, prompt=True)) for text in language.prompts(256)]
    uniforms = torch.rand(256, 128, generator=torch.Generator().manual_seed(0))
    said = policy.speak(asked, uniforms)
    found = language.describe([len(tokens) for tokens in said.tokens], 128)
    if not ends:
        assert found["cut"] == 1.0
        return
    assert 25 < found["mean_length"] < 45
    assert found["mean_length"] > 1.3 * found["length_p50"]  # the median of a geometric one is 0.69 of its mean
    assert found["length_p90"] > 60
    assert found["cut"] < 0.1


class TestTable:
    @pytest.fixture
    def record(self):
        side = {
            "median": 26789.0,
            "share_of_matrix_limit": 0.123,
            "versions": {"torch": "2.13.0"},
            "facts": {"mean_length": 34.0, "cut": 0.031} | {f"length_p{q}": float(q) for q in (10, 50, 90, 99)},
        }
        return {
            "name": "grpo-step-1M", "kind": "ratio", "line": "GRPO", "unit": "samples per second", "target": 1.5,
            "met": False, "ratio": 1.234, "ratio_low": 1.1, "ratio_high": 1.4, "ratio_by_processor_time": 1.3,
            "ours": side, "peer": side, "repeats": 5, "commit": "a" * 40 + "-modified", "started": "2026-11-23T10:00",
            "machine": {"processor": "AMD EPYC", "processors": 2, "matrix_gigaflops": 80.0, "load": 1.0},
        }  # fmt: skip

    def test_what_stands_between_the_markers_is_replaced(self, table, record):
        page = "Above.\n" + "\n".join(
            f"{table.BEGIN.format(name)}\nold\n{table.END.format(name)}" for name in table.TABLES
        )
        once = table.rewritten(page + "\nBelow.\n", [record])
        assert once == table.rewritten(once, [record])
        assert "old" not in once
        assert once.startswith("Above.\n")
        assert once.endswith("\nBelow.\n")
        assert "| `grpo-step-1M` | **1.23** (1.10 – 1.40) | 1.30 | ≥ 1.5 | **missed** | 26,800 | 26,800 |" in once
        assert "| `grpo-step-1M` | peer | 34 | 10 | 50 | 90 | 99 | 3.1% |" in once
        assert "aaaaaaa-modified" in once

    def test_a_page_without_markers_is_refused(self, table, record):
        with pytest.raises(ValueError, match="lacks the markers of 'comparison'"):
            table.rewritten("nothing here", [record])

    def test_the_page_has_the_markers(self, table):
        page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
        assert all(table.BEGIN.format(name) in page and table.END.format(name) in page for name in table.TABLES)


def test_ours_has_the_plain_gradient_and_keeps_no_more_than_a_chunk(monkeypatch):
    memory, language = (
        importlib.import_module("benchmarks.memory"),
        importlib.import_module("pilotage.policies.language"),
    )
    monkeypatch.setattr(language, "CHUNK_ABOVE", 2**15)
    monkeypatch.setattr(language, "CHUNK", 2**13)
    assert memory.apart(vocabulary=1000, tokens=100, hidden=16) < 1e-5
    states, head, action = memory.problem(1000, 100, 16)
    kept = []

    def note(tensor):
        kept.append(tensor.numel())
        return tensor

    for logp, fits in ((memory.ours, True), (memory.plain, False)):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            logp(states, head, action)
        assert (max(kept) <= head.numel()) == fits
    assert memory.resident("VmHWM") >= memory.resident("VmRSS") > 2**20
