"""Train the latent codec on moving Gaussian fields; print its rate–distortion curve and what each part is worth.

python -m lab.train_synthetic --preset nano --steps 1500

Minutes on a CPU. What a part is worth is measured on the same symbols: transforms and gains are kept, and the entropy
models alone are trained anew without the part. Two whole trainings differ by more than any part saves.
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from tqdm import tqdm

from gnvc_vd.conventions import QUALITIES
from gnvc_vd.entropy.integer import IntegerConv
from gnvc_vd.learned.bottleneck.contextual import Contextual
from gnvc_vd.learned.bottleneck.hyperprior import EntropyModel, LatentLikelihood, TemporalState
from gnvc_vd.learned.bottleneck.networks import DecodedLatent, convolution
from gnvc_vd.learned.bottleneck.symbol_coding import Uniform
from gnvc_vd.presets import ContextualPreset, preset
from gnvc_vd.train.losses import bits_per_pixel, rate_distortion, sample_quality, squared_error
from gnvc_vd.train.settings import Rate
from lab.moving_fields import moving_fields

RATE = Rate(widening=True)
LEVELS = range(0, QUALITIES, 9)
VARIANTS = {
    "whole": {},
    "no temporal state": {"temporal": False},
    "no spatial context": {"spatial": False},
    "float prior with f": {"float_prior": True},
}
EVALUATION_SEED = 1 << 40  # no training step draws from it
KEPT = ("anchor_analysis.", "anchor_synthesis.", "analysis.", "synthesis.", "extractor.", "anchor_entropy.gains.",
        "entropy.gains.")  # fmt: skip


@dataclass(frozen=True)
class Point:
    """One quality on fields that training has not seen."""

    quality: int
    bpp: float | None  # of the payload; None for a model that cannot code
    estimated_bpp: float  # of the fake-quantised model
    error: float  # mean squared, of latents of unit variance


def train(
    model: Contextual,
    steps: int,
    clips: int = 8,
    latents: int = 4,
    side: int = 16,
    rate: float = 4e-3,
    seed: int = 0,
    parameters: Iterable[nn.Parameter] | None = None,
) -> None:
    """AdamW with a cosine's decline, quality sampled for each clip, widening from the middle one; then the export."""
    generator = torch.Generator().manual_seed(seed)
    trained = list(model.parameters() if parameters is None else parameters)
    optimiser = torch.optim.AdamW(trained, lr=rate)
    decline = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, eta_min=rate / 100)
    model.train()
    for step in tqdm(range(steps), desc="training", unit="step", disable=None):
        fields = moving_fields(clips, latents, side, side, generator)
        uniform, progress = torch.rand(clips, generator=generator), 1.0 if parameters is not None else step / steps
        quality = sample_quality(uniform, RATE, progress)
        out = model(fields, quality[:, None].expand(-1, latents))
        bpp, error = bits_per_pixel(out.bits, fields), squared_error(out.latents, fields)
        loss = rate_distortion(bpp, error, quality, RATE).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        decline.step()
    model.eval()
    model.freeze()


def retrain(whole: Contextual, steps: int, temporal: bool = True, spatial: bool = True, float_prior: bool = False,
              **options: int) -> Contextual:  # fmt: skip
    """Entropy models trained anew on the symbols of a trained codec, without one of their parts.

    Args:
        temporal: whether predicted latents' entropy model has the state.
        spatial: whether half of the symbols see the other half.
        float_prior: a float entropy model that also sees f.
    """
    torch.manual_seed(1)
    model = (FloatPrior if float_prior else Contextual)(whole.preset, whole.thrift)
    if not temporal:
        model.state.__class__ = NoState
    for part in (model.anchor_entropy, model.entropy) if not spatial else ():
        part.neighbours.__class__ = NoNeighbours
    model.load_state_dict({name: value for name, value in whole.state_dict().items() if name.startswith(KEPT)}, False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(KEPT))
    train(model, steps, parameters=[one for one in model.parameters() if one.requires_grad], **options)
    return model


class NoState(TemporalState):
    """Says the same of every past."""

    def forward(self, state: Tensor | None, values: Tensor) -> Tensor:
        return torch.zeros_like(super().forward(state, values))


class NoNeighbours(IntegerConv):
    """Says the same of all neighbours."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.zeros_like(x))


class FloatConv(IntegerConv):
    """Does not pretend to be of integers."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.weight, self.bias, padding=self.kernel // 2)


class FloatPrior(Contextual):
    """With a float entropy model that also sees f, which no stream could be decoded with: it only trains."""

    def __init__(self, preset: ContextualPreset, thrift: float = 0.0) -> None:
        super().__init__(preset, thrift)
        self.entropy = SeesFeatures(preset, 2 * preset.state, thrift)
        self.peek = convolution(preset.features, preset.state, 2, stride=2)
        for layer in self.modules():
            if isinstance(layer, IntegerConv):
                layer.__class__ = FloatConv

    def entropy_model(self, past: DecodedLatent | None) -> EntropyModel:
        if past is not None:
            cast(SeesFeatures, self.entropy).features = self.peek(past.feature)
        return super().entropy_model(past)


class SeesFeatures(EntropyModel):
    """One that is given a part of its state beside the coding."""

    features: Tensor

    def forward(
        self, y: Tensor, state: Tensor | None, quality: Tensor, uniform: Uniform = torch.rand_like
    ) -> LatentLikelihood:
        return super().forward(y, torch.cat([cast(Tensor, state), self.features], dim=1), quality, uniform)


def measure(
    model: Contextual,
    qualities: Sequence[int],
    clips: int = 4,
    latents: int = 7,
    side: int = 32,
    anchors_only: bool = False,
) -> list[Point]:
    """Real payloads of a frozen model, and what the trained one estimates for the same fields."""
    fields = moving_fields(clips, latents, side, side, torch.Generator().manual_seed(EVALUATION_SEED))
    parts = fields.split(1 if anchors_only else latents, dim=2)
    points = []
    for quality in qualities:
        estimated, bits, errors = torch.zeros(clips, 1), torch.zeros(clips, 1), []
        for part in parts:
            levels = [quality] * part.shape[2]
            with torch.inference_mode():
                trained = model(part, torch.tensor([levels] * clips))
            estimated += trained.bits.sum(1, keepdim=True)
            errors.append((trained.latents - part).square().mean().item())
            if not isinstance(model, FloatPrior):
                payloads, _ = model.compress(part, levels)
                bits += torch.tensor([[8.0 * len(payload.data)] for payload in payloads])
        rates = [bits_per_pixel(one, fields).mean().item() for one in (bits, estimated)]
        points.append(
            Point(quality, None if isinstance(model, FloatPrior) else rates[0], rates[1], sum(errors) / len(errors))
        )
    return points


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="nano", help="whose latent codec (default: nano)")
    parser.add_argument("--steps", type=int, default=1500, help="of the codec (default: 1500)")
    parser.add_argument("--entropy-steps", type=int, default=600, help="of each variant's entropy models (600)")
    arguments = parser.parse_args(argv)
    torch.manual_seed(0)
    model = Contextual(preset(arguments.preset).contextual)
    train(model, arguments.steps)
    print(f"{'':22} quality      bpp  estimated    error")
    show("trained", measure(model, LEVELS))
    show("trained, anchors only", measure(model, LEVELS, anchors_only=True))
    print("on the same symbols, entropy models trained anew:")
    for name, parts in VARIANTS.items():
        show(name, measure(retrain(model, arguments.entropy_steps, **parts), LEVELS))
    return 0


def show(name: str, points: list[Point]) -> None:
    for point in points:
        bpp = "       –" if point.bpp is None else f"{point.bpp:8.5f}"
        print(f"{name:22} {point.quality:7} {bpp} {point.estimated_bpp:10.5f} {point.error:8.4f}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
