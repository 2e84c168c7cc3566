"""Sampling of one GOP in encoder and decoder: one loop, with atoms chosen or read; and the drift between the two.

x_T from Philox noise ─▶ velocity ─▶ x̂_0 ─▶ codebook of (step, latent): choose by x_0 − x̂_0, or look up ─▶ z ─▶ …

The stream holds a sketch of the encoder's final latents: four projections onto random signs ±1, divided by √D, in eight
bytes. If the decoder's latents differ by δ, each projection differs by a random number of variance mean(δ²): the RMS of
these differences estimates the drift, to a factor of about 1.5, in standard deviations of a latent. Equal latents have
equal sketches.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gnvc_vd.common.noise import normal, words
from gnvc_vd.zeroshot.codebook import Choice, Codebook
from gnvc_vd.zeroshot.gaussian_codebook import GaussianCodebook
from gnvc_vd.zeroshot.parameters import Parameters
from gnvc_vd.zeroshot.sde import Velocity, trajectory

START_KEY, ATOM_KEY, FREE_KEY = 0x47564300, 0x47564301, 0x47564302  # second halves of noise keys, after the seed
SKETCH_KEY, GAUSSIAN_KEY = 0x47564303, 0x47564304
SKETCH_STEPS = 1024  # quantisation steps per unit of a projection

AnyCodebook = Codebook | GaussianCodebook


@dataclass(frozen=True)
class SampledTrajectory:
    """A trajectory's final latents and the atoms chosen along it."""

    latents: Tensor  # 1 16 T h w
    sets: tuple[tuple[Choice, ...], ...]  # for each stochastic step, for each latent


@dataclass(frozen=True)
class Gop:
    """A GOP's sampling parameters, known to encoder and decoder before its first step.

    Args:
        index: its number in the stream.
        shape: the latents' shape, 1 16 T h w.
        counts: atoms for each latent; a latent with 0 gets random noise, which costs no bits.
    """

    parameters: Parameters
    index: int
    shape: Sequence[int]
    counts: Sequence[int]
    device: torch.device

    def encode(self, velocity: Velocity, latents: Tensor) -> SampledTrajectory:
        """Steer sampling towards these latents."""

        def choose(step: int, place: int, book: AnyCodebook, estimate: Tensor) -> Choice:
            return book.select(latents[0, :, place] - estimate[0, :, place], self.counts[place])

        return self._sample(velocity, choose)

    def decode(self, velocity: Velocity, sets: Sequence[Sequence[Choice]]) -> Tensor:
        """Repeat the encoder's sampling with its atoms."""
        return self._sample(velocity, lambda step, place, book, estimate: sets[step][place]).latents

    def _sample(
        self, velocity: Velocity, choose: Callable[[int, int, AnyCodebook, Tensor], Choice]
    ) -> SampledTrajectory:
        seed, size = self.parameters.seed, self.parameters.codebook
        codebook_of, key = (GaussianCodebook, GAUSSIAN_KEY) if self.parameters.gaussian else (Codebook, ATOM_KEY)
        _, channels, _, height, width = self.shape
        sets: list[tuple[Choice, ...]] = []

        def steer(step: int, estimate: Tensor) -> Tensor:
            row, parts, places = list[Choice](), list[Tensor](), channels * height * width
            for place, count in enumerate(self.counts):
                stream = (step, place, self.index)
                if count:
                    book = codebook_of(size, places, (seed, key), stream, self.device)
                    row.append(choose(step, place, book, estimate))
                    parts.append(book.assemble(row[-1]))
                else:
                    row.append(Choice())
                    parts.append(normal((places,), (seed, FREE_KEY), stream, self.device))
            sets.append(tuple(row))
            return torch.stack([part.view(channels, height, width) for part in parts], dim=1)[None]

        start = normal(self.shape, (seed, START_KEY), (0, 0, self.index), self.device)
        reached = trajectory(velocity, start, self.parameters.schedule, steer)
        return SampledTrajectory(reached, tuple(sets))


def sketch(latents: Tensor) -> bytes:
    flat = torch.nan_to_num(latents.flatten().double().cpu())
    signs = 1 - 2 * (words(len(flat), (0, SKETCH_KEY), (0, 0, 0)) >> 31).double()
    numbers = (flat @ signs / math.sqrt(len(flat)) * SKETCH_STEPS).round().clamp(-(1 << 15), (1 << 15) - 1)
    return numbers.numpy().astype(">i2").tobytes()


def drift(stated: bytes, latents: Tensor) -> float:
    """Estimated RMS difference from the latents of the encoder, whose sketch is `stated`."""
    there, here = (np.frombuffer(one, ">i2").astype(np.float64) for one in (stated, sketch(latents)))
    return float(np.sqrt(np.mean((there - here) ** 2)) / SKETCH_STEPS)
