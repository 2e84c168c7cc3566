"""Frames and pairs for the tests of measures."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gnvc_vd.conventions import Colour, Frame
from gnvc_vd.metrics.optical_flow import FlowEstimator, dis
from gnvc_vd.metrics.pairs import Pair, PairMaker
from gnvc_vd.metrics.temporal import WarpingError
from gnvc_vd.video import Picture, create_video

COLOUR = Colour("bt709", "limited")


def texture(height: int, width: int, seed: int = 0) -> NDArray[np.float64]:
    """A periodic picture H W 3 of soft random waves, 20 … 235; periodic, so that np.roll is a pan without an edge."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    picture = np.zeros((height, width, 3))
    for _ in range(24):
        u, v = rng.integers(-7, 8, 2)
        wave = 2 * np.pi * (u * x / width + v * y / height)
        picture += rng.normal(size=3) * np.cos(wave + rng.uniform(0, 2 * np.pi))[..., None]
    return 127.5 + 107.5 * picture / np.abs(picture).max()


def as_frame(values: NDArray[np.float64]) -> Frame:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def pan(picture: NDArray[np.float64], frames: int, step: tuple[int, int]) -> list[Frame]:
    """The picture moving by `step` (x, y) pixels a frame, wrapping round."""
    return [as_frame(np.roll(picture, (t * step[1], t * step[0]), (0, 1))) for t in range(frames)]


def noisy(clip: Sequence[Frame], sigma: float, seed: int = 1) -> list[Frame]:
    rng = np.random.default_rng(seed)
    return [as_frame(frame + rng.normal(0, sigma, frame.shape)) for frame in clip]


def pairs(reference: Sequence[Frame], test: Sequence[Frame]) -> list[Pair]:
    pairing = PairMaker(COLOUR, "cpu")
    return [pairing(Picture(x, None), Picture(y, None)) for x, y in zip(reference, test, strict=True)]


def write(path: Path, clip: Sequence[Frame]) -> Path:
    height, width = clip[0].shape[:2]
    with create_video(path, width, height, Fraction(25)) as writer:
        for frame in clip:
            writer.write(frame)
    return path


def still(first: Frame, second: Frame) -> np.ndarray:
    """The flow of a clip that does not move."""
    return np.zeros((*first.shape[:2], 2), np.float32)


def moving(x: float, y: float) -> FlowEstimator:
    """The true flow of a pan, forward at the first call and backward at the second."""
    calls = iter(range(10_000))

    def estimate(first: Frame, second: Frame) -> np.ndarray:
        flow = still(first, second)
        flow[:] = (x, y) if next(calls) % 2 == 0 else (-x, -y)
        return flow

    return estimate


def e_warp(reference: Sequence[Frame], test: Sequence[Frame], estimate: FlowEstimator = dis) -> float:
    measure = WarpingError(estimate)
    for pair in pairs(reference, test):
        measure.add(pair)
    return measure.value()
