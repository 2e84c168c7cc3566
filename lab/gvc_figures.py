"""What GVC's parts are worth on a prior: error against atoms, modes, tails, the sampling's numbers, precision.

python -m lab.gvc_figures [MODEL --video VIDEO]

Without a model: the exactly known Gaussian prior (lab/gaussian_prior.py) on a clip of its own kind. Every
figure comes from units as a file holds them, decoded again; errors are mean squares of normalised latents.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from gnvc_vd.backbone.streaming import latents_of_frames
from gnvc_vd.backbone.weights import Options, load_backbone
from gnvc_vd.bitstream import gop as gops
from gnvc_vd.common.noise import normal
from gnvc_vd.conventions import Colour, Frame
from gnvc_vd.video import VideoInfo, open_video
from gnvc_vd.zeroshot.codebook import Codebook
from gnvc_vd.zeroshot.codec import Gvc
from gnvc_vd.zeroshot.encoding import GvcEncodeOptions
from gnvc_vd.zeroshot.parameters import MODES, Parameters
from gnvc_vd.zeroshot.sde import Schedule
from gnvc_vd.zeroshot.tail import PUBLISHED
from lab.gaussian_prior import GaussianVae, clip, gaussian_prior

SWEPT = (("g_scale", 2.0), ("g_scale", 5.0), ("shift", 1.0), ("shift", 5.0), ("tail", 1), ("reuse", True))


@dataclass(frozen=True)
class Outcome:
    """One coding of the clip."""

    what: str
    bytes: int
    errors: tuple[float, ...]  # of each GOP's latents
    psnr: float
    latents: tuple[Tensor, ...]

    @property
    def error(self) -> float:
        return float(np.mean(self.errors))

    def __str__(self) -> str:
        gops_ = " ".join(f"{error:.4f}" for error in self.errors) if len(self.errors) > 1 else ""
        return f"{self.what:34} {self.bytes:7} B  MSE {self.error:.4f}  PSNR {self.psnr:.2f} dB  {gops_}"


def coded(
    codec: Gvc, frames: Sequence[Frame], encoding: GvcEncodeOptions, what: str, decoder: Gvc | None = None
) -> Outcome:
    """Units, decoded by this codec or another one's numbers."""
    height, width = frames[0].shape[:2]
    info = VideoInfo(width, height, Fraction(25), None, Colour("bt709", "limited"), "", "")
    units = list(codec.encode_units(iter(frames), encoding))
    replaying = (decoder or codec).decoder(codec.header(info, encoding), pictures=False)
    errors, squares, latents, place = list[float](), list[float](), list[Tensor](), 0
    for unit in units:
        reached, repeated = replaying.replay(unit)
        decoded = np.concatenate(list(replaying.decode_frames(unit, reached, repeated)))
        own = np.stack(frames[place - repeated : place + unit.frames])
        target = latents_of_frames(codec.prior.vae, gops.pad(own), codec.device)
        errors.append(float((reached - target).square().mean()))
        squares.append(float(np.square(decoded.astype(float) - own[repeated:]).mean()))
        latents.append(reached)
        place += unit.frames
    psnr = 10 * np.log10(255**2 / np.mean(squares))
    return Outcome(what, sum(unit.size for unit in units), tuple(errors), float(psnr), tuple(latents))


def figures(codec: Gvc, rounded: Gvc, frames: Sequence[Frame], still_quality: int, gop: int) -> Iterator[str]:
    """Lines, as they are ready. `frames` are four chained GOPs; `rounded` is the same prior in bfloat16."""
    base = GvcEncodeOptions(16, gop=gop, scenecut=False, still_quality=still_quality)
    one = frames[:gop]

    def at(what: str, encoding: GvcEncodeOptions, clip: Sequence[Frame] = one, **parameters: object) -> Outcome:
        given = replace(encoding.parameters, **parameters)  # type: ignore[arg-type]
        return coded(codec, clip, replace(encoding, parameters=given), what)

    yield "atoms, one GOP, T2V"
    for atoms in (0, 1, 4, 16, 64):
        yield str(at(f"  M = {atoms}", replace(base, atoms=atoms)))
    yield "modes, one GOP, M = 4"
    for mode in MODES:
        yield str(at(f"  {mode}", replace(base, atoms=4), mode=mode))
    yield "  flf2v, none for the first latent: " + str(at("", replace(base, atoms=4), mode="flf2v", withhold=True))
    yield "four chained GOPs, I2V, M = 4: error of each"
    chained = replace(base, atoms=4, tail_atoms=4, parameters=Parameters("i2v"))
    for what, change in (
        ("  no tail", {}),
        ("  tail atoms 2 M", {"tail_atoms": 8}),
        ("  tail residual, step 1/4", {"tail_step": 16}),
        ("  both", {"tail_atoms": 8, "tail_step": 16}),
        ("  both, published residual", {"tail_atoms": 8, "tail_step": PUBLISHED}),
    ):
        yield str(at(what, replace(chained, **change), frames))  # type: ignore[arg-type]
    both = replace(chained, tail_atoms=8, tail_step=16)
    yield str(at("  both, no frame shared (published)", both, frames, overlap=False))
    yield "sampling, one GOP, T2V, M = 16"
    for size in (1024, 16384, 65536):
        yield str(at(f"  K = {size}", base, codebook=size))
    for name, value in SWEPT:
        yield str(at(f"  {name} {value}", base, schedule=replace(Schedule(), **{name: value})))  # type: ignore[arg-type]
    yield "the same file decoded in float32 and bfloat16, M = 16"
    exact, low = coded(codec, one, base, "  float32"), coded(codec, one, base, "  bfloat16", rounded)
    drift = float(np.mean([float((a - b).square().mean()) for a, b in zip(exact.latents, low.latents, strict=True)]))
    yield str(exact)
    yield str(low)
    yield f"  drift: mean square {drift:.1e}, {drift / exact.error:.1e} of the codec's own error"


def drawn_atoms(places: int, size: int, count: int, kind: str, rounds: int, seed: int = 0) -> float:
    """E cos(z, r) of top-M sums when every atom is drawn by itself: "normal", or "sign" for ±1."""
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for _ in range(rounds):
        atoms = torch.randn(size, places, generator=generator)
        atoms = atoms.sign() if kind == "sign" else atoms
        residual = torch.randn(places, generator=generator)
        products = atoms @ residual
        best = products.abs().topk(count).indices
        z = products[best].sign() @ atoms[best]
        drawn.append(float(z @ residual / (z.norm() * residual.norm())))
    return float(np.mean(drawn))


def code_cosine(places: int, size: int, count: int, rounds: int) -> float:
    total = 0.0
    for number in range(rounds):
        book, residual = Codebook(size, places, (0, 1), (number, 0, 0)), normal((places,), (0, 2), (number, 0, 0))
        z = book.assemble(book.select(residual, count))
        total += float(z @ residual / (z.norm() * residual.norm()))
    return total / rounds


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="a preset or model folder; needs --video")
    parser.add_argument("--video", help="any video of four GOPs or more")
    parser.add_argument("--gop", type=int, default=17, help="frames, 1 + 4k (default: 17)")
    parser.add_argument("--side", type=int, default=64, help="of the Gaussian prior's pictures (default: 64)")
    parser.add_argument("--still-quality", type=int, default=50, help="of given frames (default: 50)")
    arguments = parser.parse_args(argv)
    count = 4 * arguments.gop
    if arguments.model is None:
        prior, rounded = gaussian_prior(), gaussian_prior(torch.bfloat16)
        frames = clip(GaussianVae(), count, arguments.side, arguments.side)
        codec, low = Gvc(prior), Gvc(rounded)
    else:
        if arguments.video is None:
            parser.error("a model needs --video")
        codec = Gvc(load_backbone(arguments.model))
        low = Gvc(load_backbone(arguments.model, Options(vae_decoder=torch.bfloat16, transformer=torch.bfloat16)))
        with open_video(arguments.video) as video:
            frames = list(islice(video, count))
    print("atoms: cos(z, r) at D = 4096, K = 1024, M = 16, mean of 20")
    for kind in ("normal", "sign"):
        print(f"  drawn one by one, {kind:6} {drawn_atoms(4096, 1024, 16, kind, 20):.4f}")
    print(f"  the affine code            {code_cosine(4096, 1024, 16, 20):.4f}")
    for line in figures(codec, low, frames, arguments.still_quality, arguments.gop):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
