"""Numbers of the denoising core worked by hand: levels, preconditioning, samplers, guidance (cards beso and rti-dp)."""

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from pilotage.data.piece import UsageError
from pilotage.policies.denoise import guidance, karras, sampling
from pilotage.policies.denoise.karras import Sigmas
from pilotage.policies.denoise.networks import CausalDenoiser, MLPDenoiser
from pilotage.policies.denoise.process import Levels, cosine_betas, linear_betas

COSINE = Levels(100, "cosine")
POINT = torch.tensor([[0.3, -0.7, 0.1]])


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape, dtype=np.float32))


def knows(point: torch.Tensor):
    """The exact denoiser of data that are one point."""
    return lambda noisy, level: point.expand_as(noisy)


class TestLevels:
    def test_noise_content_of_levels(self):
        wanted = {0: 0.0251, 1: 0.0418, 2: 0.0579, 3: 0.0737, 5: 0.1050, 20: 0.3330, 40: 0.6062}
        for level, content in wanted.items():
            assert math.sqrt(1 - COSINE.kept(level)) == pytest.approx(content, abs=6e-5)

    def test_contraction_of_each_level(self):
        wanted = {1: 0.3610, 2: 0.5216, 3: 0.6159, 7: 0.7833, 20: 0.9085, 40: 0.9481}
        for level, factor in wanted.items():
            assert sampling.contraction(COSINE, level) == pytest.approx(factor, abs=6e-5)
        product = math.prod(sampling.contraction(COSINE, k) for k in (3, 2, 1))
        assert product == pytest.approx(0.1160, abs=6e-5)
        assert sampling.contraction(COSINE, 2) * sampling.contraction(COSINE, 1) == pytest.approx(0.1883, abs=6e-5)
        assert sampling.contraction(COSINE, 0) == 0.0

    def test_the_error_of_a_guess_shrinks_by_the_contractions(self):
        guess = POINT.double() + 0.01
        left = sampling.ddpm(COSINE, knows(POINT.double()), guess, [3, 2, 1], None) - POINT.double()
        assert left == pytest.approx(torch.full((1, 3), 0.01 * 0.1160), rel=1e-3)

    def test_the_linear_schedule_is_the_published_one(self):
        betas = linear_betas(1000)
        assert float(betas[0]) == pytest.approx(1e-4)
        assert float(betas[-1]) == pytest.approx(0.02)
        assert float((1 - betas).cumprod(0)[-1]) == pytest.approx(4.0358e-5, rel=1e-4)

    def test_the_cosine_schedule_holds_its_largest(self):
        betas = cosine_betas(100)
        assert float(betas.max()) == pytest.approx(0.999)
        assert bool((betas[1:] >= betas[:-1]).all())

    def test_clean_undoes_noised(self):
        clean, noise, level = draws(4, 3), draws(4, 3, seed=1), torch.tensor([0, 10, 50, 90])
        noisy = COSINE.noised(clean, level, noise)
        assert torch.allclose(COSINE.clean(noisy, level, noise), clean, atol=1e-4)
        assert torch.allclose(COSINE.epsilon(noisy, level, clean), noise, atol=1e-4)
        assert torch.equal(Levels(100, asks="clean").clean(noisy, level, clean), clean)

    def test_a_clean_loss_weighted_by_snr_is_the_loss_of_epsilon(self):
        asked = Levels(100, asks="clean", weighting="snr")
        clean, noise, level = draws(4, 3), draws(4, 3, seed=1), torch.tensor([3, 10, 50, 90])
        said = draws(4, 3, seed=2)  # a guess of the noise, and the clean sample it means
        noisy = COSINE.noised(clean, level, noise)
        epsilon, pair = COSINE.pair(clean, level, noise), asked.pair(clean, level, noise)
        one = (said - epsilon.target).square().mean(-1) * epsilon.weight
        other = (COSINE.clean(noisy, level, said) - pair.target).square().mean(-1) * pair.weight
        assert torch.allclose(one, other, rtol=1e-3)

    def test_all_levels_are_drawn_and_no_other(self):
        uniform = torch.tensor([0.0, 0.0099, 0.01, 0.5, 1 - 1e-7])
        assert COSINE.draw_level(uniform).tolist() == [0, 0, 1, 50, 99]

    def test_spaced_levels(self):
        assert COSINE.spaced(100) == tuple(range(99, -1, -1))
        assert COSINE.spaced(4) == (99, 66, 33, 0)
        assert COSINE.spaced(1) == (99,)

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"count": 0}, "at least one level"),
            ({"schedule": "cosin"}, "did you mean 'cosine'"),
            ({"asks": "epsilom"}, "did you mean 'epsilon'"),
            ({"weighting": "snrr"}, "did you mean 'snr'"),
        ],
    )
    def test_mistakes_are_named(self, settings, said):
        with pytest.raises(UsageError, match=said):
            Levels(**settings)

    def test_there_is_no_level_beyond(self):
        with pytest.raises(ValueError, match="no level 100"):
            COSINE.kept(100)
        with pytest.raises(UsageError, match="denoising steps, not 101"):
            COSINE.spaced(101)


class TestPreconditioning:
    def test_at_the_scale_of_the_data(self):
        skip, out, into = (float(c) for c in Sigmas(data_scale=0.5).preconditioning(torch.tensor([0.5])))
        assert (skip, out, into) == pytest.approx((0.5, 0.353553, 1.414214), abs=1e-6)

    def test_without_noise_the_sample_stays(self):
        noisy, said = draws(5, 3), 100 * draws(5, 3, seed=1)
        assert torch.allclose(Sigmas().clean(noisy, torch.tensor([1e-9]), said), noisy, atol=1e-6)

    @pytest.mark.parametrize("sigma", [0.01, 0.5, 3.0])
    def test_targets_have_variance_one(self, sigma):
        clean, noise = 0.5 * draws(200_000), draws(200_000, seed=1)
        target = Sigmas().pair(clean, torch.full((200_000,), sigma), noise).target
        assert float(target.var()) == pytest.approx(1.0, abs=0.02)

    def test_a_right_answer_gives_the_clean_sample(self):
        process, level = Sigmas(), torch.tensor([0.01, 0.2, 0.9])
        clean, noise = draws(3, 4, 2), draws(3, 4, 2, seed=1)
        pair = process.pair(clean, level, noise)
        found = process.clean(process.noised(clean, level, noise), level, pair.target)
        assert torch.allclose(found, clean, atol=1e-5)
        assert torch.allclose(pair.time, level.log() / 4)

    def test_the_loss_of_the_network_is_the_loss_of_the_sample_over_the_output_scale(self):
        process, level = Sigmas(), torch.tensor([0.01, 0.2, 0.9])
        clean, noise, said = draws(3, 4), draws(3, 4, seed=1), draws(3, 4, seed=2)
        pair = process.pair(clean, level, noise)
        _, out, _ = process.preconditioning(level)
        found = process.clean(process.noised(clean, level, noise), level, said)
        one = (said - pair.target).square().mean(-1)
        assert torch.allclose(one, (found - clean).square().mean(-1) / out.square(), rtol=1e-3)

    def test_levels_never_leave_their_bounds(self):
        process = Sigmas(0.005, 1.0)
        uniform = torch.cat([torch.tensor([0.0, 1 - 1e-7]), torch.rand(10_000, generator=torch.Generator())])
        drawn = process.draw_level(uniform)
        assert bool((drawn >= 0.005).all())
        assert bool((drawn <= 1.0).all())

    def test_untruncated_the_median_is_the_scale_of_the_data(self):
        assert float(Sigmas(1e-9, 1e9, data_scale=0.5).draw_level(torch.tensor([0.5]))) == pytest.approx(0.5, rel=1e-5)

    @pytest.mark.parametrize("bad", [{"smallest": 0.0}, {"smallest": 2.0}, {"data_scale": 0.0}])
    def test_mistakes_are_named(self, bad):
        with pytest.raises(UsageError, match="0 < smallest < largest"):
            Sigmas(**bad)


class TestSchedules:
    def test_three_steps(self):
        assert karras.exponential(3, 0.005, 1) == pytest.approx((1, 0.0707107, 0.005, 0), abs=1e-6)
        assert karras.linear(3, 0.005, 1) == pytest.approx((1, 0.5025, 0.005, 0), abs=1e-6)
        assert karras.karras(3, 0.005, 1, rho=5) == pytest.approx((1, 0.138356, 0.005, 0), abs=1e-6)

    @pytest.mark.parametrize("name", karras.SCHEDULES)
    def test_one_step_is_from_the_largest_to_none(self, name):
        assert karras.schedule(name, 1, 0.005, 1) == pytest.approx((1, 0))

    def test_mistakes_are_named(self):
        with pytest.raises(UsageError, match="did you mean 'linear'"):
            karras.schedule("liner", 3, 0.005, 1)
        with pytest.raises(UsageError, match="at least one denoising step"):
            karras.schedule("linear", 0, 0.005, 1)


class TestSamplers:
    def test_lists_that_end_with_level_zero_end_on_a_known_point(self):
        for steps in ([0], [2, 1, 0], [3, 1, 0], [22, 20, 18, 0], list(range(99, -1, -1))):
            found = sampling.ddpm(COSINE, knows(POINT), draws(1, 3), steps, draws(len(steps), 1, 3, seed=1))
            assert torch.equal(found, POINT)

    def test_and_so_with_the_network_that_says_the_noise(self):
        # eps*(A, k) = (A - sqrt(abar) a*) / sqrt(1 - abar)
        def denoise(noisy, level):
            return COSINE.clean(noisy, level, COSINE.epsilon(noisy, level, POINT))

        found = sampling.ddpm(COSINE, denoise, draws(1, 3), [3, 1, 0], draws(3, 1, 3, seed=1))
        assert torch.allclose(found, POINT, atol=1e-5)

    def test_level_zero_alone_gives_the_clipped_prediction(self):
        found = sampling.ddpm(COSINE, knows(3 * POINT), draws(1, 3), [0], draws(1, 1, 3), clip=1.0)
        assert torch.equal(found, (3 * POINT).clamp(-1, 1))

    def test_gaps_are_steps_of_one_level(self):
        start, noise, known = draws(2, 3), draws(2, 2, 3, seed=1), knows(POINT)
        found = sampling.ddpm(COSINE, known, start, [22, 20], noise)
        first = sampling.posterior(COSINE, start, POINT, 22, 21).sample(noise[0])
        assert torch.equal(found, sampling.posterior(COSINE, first, POINT, 20, 19).sample(noise[1]))
        far = sampling.ddpm(COSINE, known, start, [22, 20], noise, strided=True)
        assert not torch.equal(far, found)

    def test_the_posterior_of_one_level_is_the_textbook_one(self):
        noisy, clean, k = draws(2, 3).double(), draws(2, 3, seed=1).double(), 30
        beta, here, before = float(COSINE.betas[k]), float(COSINE.signal[k]), float(COSINE.signal[k - 1])
        mean = (before**0.5 * beta * clean + (1 - beta) ** 0.5 * (1 - before) * noisy) / (1 - here)
        move = sampling.posterior(COSINE, noisy, clean, k)
        assert torch.allclose(move.mean, mean)
        assert move.std == pytest.approx((beta * (1 - before) / (1 - here)) ** 0.5)

    def test_ddim_with_eta_one_is_the_posterior(self):
        noisy, clean = draws(2, 3).double(), draws(2, 3, seed=1).double()
        for k in (1, 30, 99):
            one, other = (
                sampling.posterior(COSINE, noisy, clean, k),
                sampling.implicit(COSINE, noisy, clean, k, k - 1, 1),
            )
            assert torch.allclose(one.mean, other.mean, atol=1e-9)
            assert one.std == pytest.approx(other.std, rel=1e-9)

    def test_log_density_of_a_step(self):
        move = sampling.Move(torch.zeros(2, 2, 3), 0.5)
        one = -0.5 * 4 - math.log(0.5) - 0.5 * math.log(2 * math.pi)
        assert move.logp(torch.ones(2, 2, 3)).tolist() == pytest.approx([6 * one] * 2)
        assert move.logp(torch.ones(2, 2, 3), "mean").tolist() == pytest.approx([one] * 2)
        with pytest.raises(ValueError, match="no density"):
            sampling.Move(torch.zeros(1, 1), 0.0).logp(torch.zeros(1, 1))
        with pytest.raises(ValueError, match="sum or mean"):
            move.logp(torch.ones(2, 2, 3), "max")

    def test_ancestral_step(self):
        down, up = sampling.ancestral(1.0, 0.5)
        assert (down, up) == pytest.approx((0.25, 0.4330127), abs=1e-7)
        assert sampling.ancestral(1.0, 0.0) == (0.0, 0.0)

    @pytest.mark.parametrize("steps", [1, 2, 3, 10])
    @pytest.mark.parametrize("name", karras.SCHEDULES)
    def test_every_solver_ends_on_a_known_point(self, steps, name):
        sigmas, start, known = karras.schedule(name, steps, 0.005, 1), draws(2, 3), knows(POINT)
        for found in (
            sampling.euler(known, start, sigmas),
            sampling.heun(known, start, sigmas),
            sampling.euler_ancestral(known, start, sigmas, draws(steps, 2, 3, seed=1)),
        ):
            assert torch.equal(found, POINT.expand(2, 3))

    def test_ddim_is_euler_on_the_flow(self):
        noisy, clean = draws(4, 3).double(), draws(4, 3, seed=1).double()
        for sigma, following in ((1.0, 0.5), (0.07, 0.005)):
            slope = (noisy - clean) / sigma
            stepped = noisy + (following - sigma) * slope
            assert torch.allclose(sampling.towards(noisy, clean, sigma, following), stepped, atol=1e-12)

    @pytest.mark.parametrize(("solver", "steps", "error"), [(sampling.euler, 400, 4e-3), (sampling.heun, 60, 1e-3)])
    def test_the_flow_of_a_normal_is_a_shift_and_a_scale(self, solver, steps, error):
        middle, process, largest = 0.3, Sigmas(1e-4, 2.0), 2.0

        def denoise(noisy, level):
            skip = process.preconditioning(level)[0]
            return skip * noisy + (1 - skip) * middle

        start = largest * draws(5, 2).double() + middle
        found = solver(denoise, start, karras.karras(steps, 1e-4, largest))
        exact = middle + (start - middle) * 0.5 / math.sqrt(largest**2 + 0.25)
        assert torch.allclose(found, exact, atol=error)

    def test_a_start_of_its_own_and_a_cut_list(self):
        warm = sampling.ddim(COSINE, knows(POINT), POINT + 0.01, [2, 1, 0])
        assert torch.equal(warm, POINT)

    def test_guides_come_before_clipping(self):
        found = sampling.ddpm(
            COSINE, knows(POINT), draws(1, 3), [0], None, clip=1.0, guide=lambda clean, noisy, level: clean + 2
        )
        assert found.tolist() == [[1.0, 1.0, 1.0]]

    def test_no_noise_means_no_noise(self):
        start = draws(2, 3)
        zero = sampling.ddpm(COSINE, knows(POINT), start, [9, 8], torch.zeros(2, 2, 3))
        assert torch.equal(zero, sampling.ddpm(COSINE, knows(POINT), start, [9, 8], None))


class TestGuidance:
    def test_identities(self):
        with_goal, free = draws(3, 2), draws(3, 2, seed=1)

        def never():
            raise AssertionError("not to be called")

        assert torch.equal(guidance.classifier_free(lambda: with_goal, never, 1.0), with_goal)
        assert torch.equal(guidance.classifier_free(never, lambda: free, 0.0), free)
        two = guidance.classifier_free(lambda: with_goal, lambda: free, 2.0)
        assert torch.allclose(two, 2 * with_goal - free, atol=1e-6)

    def test_whole_conditions_are_dropped(self):
        uniform = torch.tensor([0.0, 0.05, 0.1, 0.5])
        assert guidance.kept(uniform, 0.1).tolist() == [False, False, True, True]
        assert guidance.kept(uniform, 0.0).tolist() == [True] * 4


def transformer(observed: int = 4, window: int = 4, goals: int = 1, seed: int = 0) -> CausalDenoiser:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CausalDenoiser(window, observed, 2, 3, goals=goals, goal=3, width=16, layers=2, heads=2).eval()


class TestNetworks:
    @pytest.mark.parametrize("step", range(3))
    def test_nothing_that_comes_later_is_seen(self, step):
        network, time = transformer(), torch.tensor([0.3])
        noisy, seen, goal = draws(2, 4, 2), draws(2, 4, 3, seed=1), draws(2, 1, 3, seed=2)
        said = network(noisy, time, seen, goal)
        for changed in ("noisy", "seen"):
            moved = {"noisy": noisy.clone(), "seen": seen.clone()}
            moved[changed][:, step + 1 :] += 1
            other = network(moved["noisy"], time, moved["seen"], goal)
            assert torch.equal(other[:, : step + 1], said[:, : step + 1])
            assert not torch.allclose(other[:, step + 1], said[:, step + 1])
        seen[:, step] += 1
        assert not torch.allclose(network(noisy, time, seen, goal)[:, step], said[:, step])

    def test_the_goal_and_the_time_are_seen_everywhere(self):
        network = transformer()
        noisy, seen, goal = draws(2, 4, 2), draws(2, 4, 3, seed=1), draws(2, 1, 3, seed=2)
        said = network(noisy, torch.tensor([0.3]), seen, goal)
        for other in (
            network(noisy, torch.tensor([0.3]), seen, goal + 1),
            network(noisy, torch.tensor([0.4]), seen, goal),
        ):
            assert bool(((other - said).abs().amax(-1) > 0).all())

    def test_actions_beyond_the_observations(self):
        network = transformer(observed=2, window=5, goals=0)
        assert network(draws(3, 5, 2), torch.zeros(3), draws(3, 2, 3)).shape == (3, 5, 2)

    def test_one_time_for_all_rows_is_the_same_as_one_each(self):
        network, noisy, seen, goal = transformer(), draws(3, 4, 2), draws(3, 4, 3), draws(3, 1, 3)
        one, each = (network(noisy, torch.full((n,), 0.2), seen, goal) for n in (1, 3))
        assert torch.equal(one, each)
        flat = MLPDenoiser((4, 2), 5, (16,))
        torch.nn.init.normal_(flat.layers[-1].weight)
        one, each = (flat(noisy, torch.full((n,), 0.2), draws(3, 5)) for n in (1, 3))
        assert torch.equal(one, each)

    def test_the_perceptron_begins_by_saying_nothing(self):
        assert not bool(MLPDenoiser((4, 2), 0, (16,))(draws(3, 4, 2), torch.zeros(3)).any())


def test_levels_fall():
    for name in karras.SCHEDULES:
        assert all(a > b for a, b in pairwise(karras.schedule(name, 9, 0.005, 1)))


RECORD = json.loads((Path(__file__).parent / "data" / "diffusers_schedulers.json").read_text())


@pytest.mark.parametrize(
    "case", RECORD["cases"], ids=lambda c: "-".join(str(c[k]) for k in c if k not in ("mean", "std"))
)
def test_steps_are_those_of_diffusers(case):
    # recorded by tests/known/data/diffusers_schedulers.py
    levels, level = Levels(100, case["schedule"]), case["level"]
    sample, said = torch.tensor(RECORD["sample"]), torch.tensor(RECORD["said"])
    clean = levels.clean(sample, torch.tensor([level]), said).clamp(-1, 1)
    if case["sampler"] == "ddpm":
        move = sampling.posterior(levels, sample, clean, level)
    else:
        move = sampling.implicit(levels, sample, clean, level, case["following"], case["eta"])
    assert torch.allclose(move.mean, torch.tensor(case["mean"]), atol=1e-4)  # theirs are worked out in float32
    assert move.std == pytest.approx(case["std"], rel=1e-4, abs=1e-8)
