"""Rewards of pictures: files of known size, shades, and two classifiers that have seen different digits."""

import io

import numpy as np
import pytest
from PIL import Image

from pilotage.worlds import pictures


def test_a_reward_of_size_is_that_of_a_file():
    pixels, label = pictures.rows_for(judging=False)
    shades = np.clip(np.round((pixels[0] + 1) * 127.5), 0, 255).astype(np.uint8).reshape(8, 8)
    sizes = []
    for picture in (shades, np.zeros_like(shades)):
        into = io.BytesIO()
        Image.fromarray(np.kron(picture, np.ones((4, 4), np.uint8))).save(into, "JPEG", quality=95)
        sizes.append(len(into.getvalue()))
    found = pictures.kilobytes(pixels[:1], label[:1])
    assert found.tolist() == [(sizes[0] - sizes[1]) / 1000]
    assert pictures.smallness(pixels[:1], label[:1]).tolist() == [-found[0]]


def test_noise_makes_larger_files_than_digits_and_these_than_a_flat_shade():
    pixels, label = pictures.rows_for(judging=False)
    noise = np.random.default_rng(0).uniform(-1, 1, (50, 64)).astype(np.float32)
    flat = np.zeros((1, 64), np.float32)
    sizes = [float(pictures.kilobytes(p, label[: len(p)]).mean()) for p in (noise, pixels[:50], flat)]
    assert sizes[0] > 1.2 * sizes[1] > 1.2 * sizes[2]


def test_shades_are_held_in_range():
    pixels = np.array([[-3.0] * 32 + [3.0] * 32], np.float32)
    assert pictures.grey(pixels).flatten().tolist() == [0] * 32 + [255] * 32
    assert pictures.brightness(pixels, np.zeros(1, np.int64)).tolist() == [0.5]


def test_classifier_and_judge_are_good_at_digits_they_have_not_seen():
    for judging, right in ((True, pictures.classifier()), (False, pictures.judge())):
        pixels, label = pictures.rows_for(judging=judging)
        assert right.score(pixels, label) > 0.94


def test_what_the_judge_sees_nobody_else_does():
    (seen, _), (judged, _) = pictures.rows_for(judging=False), pictures.rows_for(judging=True)
    assert len(seen) + len(judged) == 1797
    assert not {row.tobytes() for row in seen} & {row.tobytes() for row in judged}


def test_the_log_probability_of_the_wanted_class():
    pixels, label = pictures.rows_for(judging=False)
    right, wrong = (pictures.log_probability(pixels[:200], (label[:200] + i) % 10) for i in (0, 1))
    assert float(right.mean()) > -0.5
    assert float(wrong.mean()) < -3
    every = np.exp([pictures.log_probability(pixels[:5], np.full(5, c)) for c in range(10)]).sum(0)
    assert every.tolist() == pytest.approx([1] * 5)


def test_the_spread_of_pictures_of_a_class():
    pixels = np.stack([np.full(64, v, np.float32) for v in (0.0, 0.5, 1.0, -1.0)])
    # classes 3: 0, 0.5 and 1 differ by 0.5, 1 and 0.5; class 7 has one picture only
    assert pictures.spread(pixels, np.array([3, 3, 3, 7])) == pytest.approx(2 / 3)
    assert np.isnan(pictures.spread(pixels, np.arange(4)))
