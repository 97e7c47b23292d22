"""What pictures are worth: rewards that others have made, from pixels [n, side · side] in [-1, 1]. Imports no torch."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotage.data.piece import UsageError

Pixels = NDArray[np.float32]
Labels = NDArray[np.int64]
Floats = NDArray[np.float64]
TRAINING_SHARE = 0.5  # of the pictures: rows for denoisers and the rewarding classifier; the others are for the judge
ENLARGED = 4  # a JPEG block is 8 by 8: of a picture no larger than that nearly all files are of one size
QUALITY = 95  # as in DDPO


@cache
def digits() -> tuple[Pixels, Labels]:
    """scikit-learn's 1,797 digits of 8 by 8 pixels, in [-1, 1], and their classes, in a fixed random order."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise UsageError(f'{error}: pip install "pilotage[images]"') from None
    pixels, label = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(label))
    return (pixels[order] / 8 - 1).astype(np.float32), label[order].astype(np.int64)


def rows_for(judging: bool) -> tuple[Pixels, Labels]:
    """The digits that the judge alone sees, or those that all else is made from."""
    pixels, label = digits()
    cut = round(TRAINING_SHARE * len(label))
    return (pixels[cut:], label[cut:]) if judging else (pixels[:cut], label[:cut])


def grey(pixels: Pixels) -> NDArray[np.uint8]:
    """[n, side, side] shades of grey, what is out of range held at black or white."""
    side = round(pixels.shape[1] ** 0.5)
    shades = np.clip(np.round((pixels + 1) * 127.5), 0, 255).astype(np.uint8)
    return shades.reshape(len(pixels), side, side)


def kilobytes(pixels: Pixels, label: Labels) -> Floats:
    """[n] size of a JPEG file of the picture, each pixel 4 by 4, less that of a black one: 1 is 1,000 bytes."""
    found = [_file_size(shades) for shades in grey(pixels)]
    blank = _file_size(np.zeros(grey(pixels[:1]).shape[1:], np.uint8)) if len(pixels) else 0
    return (np.array(found, np.float64) - blank) / 1000


def _file_size(shades: NDArray[np.uint8]) -> int:
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise UsageError(f'{error}: pip install "pilotage[images]"') from None
    into = io.BytesIO()
    Image.fromarray(shades.repeat(ENLARGED, 0).repeat(ENLARGED, 1)).save(into, "JPEG", quality=QUALITY)
    return into.tell()


def smallness(pixels: Pixels, label: Labels) -> Floats:
    """[n] minus the size of the file."""
    return -kilobytes(pixels, label)


def brightness(pixels: Pixels, label: Labels) -> Floats:
    """[n] mean shade, from 0 (black) to 1 (white)."""
    found: Floats = grey(pixels).mean((1, 2)) / 255
    return found


@cache
def classifier() -> Any:
    """A logistic regression that rewards are taken from, fitted to the digits that denoisers see."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=0.1, max_iter=1000).fit(*rows_for(judging=False))


@cache
def judge() -> Any:
    """A support vector machine fitted to the other digits, which knows nothing of the rewards: what it calls a picture
    says whether a reward was earned by drawing the digit or by deceiving the classifier."""
    from sklearn.svm import SVC

    return SVC().fit(*rows_for(judging=True))


def log_probability(pixels: Pixels, label: Labels) -> Floats:
    """[n] log-probability of the wanted class under the classifier, which sees pixels held within their range."""
    found: Floats = classifier().predict_log_proba(np.clip(pixels, -1, 1))[np.arange(len(label)), label]
    return found


def recognised(pixels: Pixels, label: Labels) -> NDArray[np.bool_]:
    """[n] whether the judge takes a picture for the class that was wanted."""
    found: NDArray[np.bool_] = judge().predict(np.clip(pixels, -1, 1)) == label
    return found


def spread(pixels: Pixels, label: Labels) -> float:
    """Mean root-mean-square difference of two pictures of one class; NaN where no class has two."""
    found = []
    for wanted in np.unique(label):
        same = pixels[label == wanted].astype(np.float64)
        if len(same) > 1:
            squares = np.square(same[:, None] - same[None]).mean(-1)
            found.append(np.sqrt(squares)[np.triu_indices(len(same), 1)].mean())
    return float(np.mean(found)) if found else float("nan")


REWARDS: Mapping[str, Callable[[Pixels, Labels], Floats]] = {
    "compressibility": smallness,
    "incompressibility": kilobytes,
    "log_probability": log_probability,
    "brightness": brightness,
}
