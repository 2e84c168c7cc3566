"""Quality by latent and by slice, learned under R + λD: what offsets are worth.

python -m lab.study_offsets learn MODEL --latents FOLDER… --out DIR [--steps 50] [--seeds 3]
python -m lab.study_offsets judge VIDEO… --out DIR

MODEL has either latent codec; latents are those of its training (scripts/precompute_latents.py), clips of 25 frames.

contextual  An offset of the quality is learned for each latent of a GOP, all else being frozen. The gradient is that of
            central differences, since what passes straight through rounding leads elsewhere. Rounded to whole
            qualities, less what all have in common, they are written to DIR/patterns.json; lab.study_choices measures
            them.
transform   It has learned its slices' gains already, so these are made equal first, and then two arms train on the same
            batches: `flat` all but the gains, `flat+offsets` an offset of each slice's gain too. Both become model
            folders in DIR, with integers of their own. `judge` writes a file for each, video and quality, decodes the
            files in another process without refinement, and prints the rate with offsets in percent of that without,
            at equal figures (BD-rate): the mean over seeds ± their standard deviation. DIR/rows.jsonl keeps figures.
"""

import argparse
import copy
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import TypeVar

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from gnvc_vd.backbone.streaming import VideoVae
from gnvc_vd.bitstream import pack_stream
from gnvc_vd.codecs.load import load, save
from gnvc_vd.common.files import write_text
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import QUALITIES
from gnvc_vd.data.latents import LatentClips, encoder_identity
from gnvc_vd.learned.bottleneck.contextual import Contextual
from gnvc_vd.learned.bottleneck.gains import Gains
from gnvc_vd.learned.bottleneck.slices import SliceEntropy
from gnvc_vd.learned.bottleneck.transform import Transform
from gnvc_vd.learned.codec import GnvcVd, Gop
from gnvc_vd.report.curves import Row
from gnvc_vd.train import losses
from gnvc_vd.train.settings import Rate
from lab.coded_files import (
    clips,
    decode_apart,
    exit_code,
    info_of,
    keep,
    measured,
    write_video,
)
from lab.study_choices import LEVELS, SETTINGS, rate_of

LATENTS = 7  # of a GOP of 25 frames
RATE = Rate(smallest=0.005, largest=12.0)  # that the shipped codecs were trained with
BATCH, CODEC_RATE, GAIN_RATE = 4, 2e-4, 0.02  # clips of a step; learning rates of weights and of log gains
OFFSET_RATE, REACH = 0.5, 4.0  # in qualities: learning rate, and how far differences reach
PATTERNS = "patterns.json"
ARMS = ("flat", "flat+offsets")

Kind = TypeVar("Kind", Contextual, Transform)


def learn(loss: Callable[[], Tensor], parameters: Sequence[tuple[list[Tensor], float]], steps: int) -> None:
    """Minimise a loss with Adam, each group of parameters at its own rate, which falls to zero along a cosine."""
    optimiser = torch.optim.Adam([{"params": those, "lr": rate} for those, rate in parameters])
    schedule = LambdaLR(optimiser, lambda step: (1 + math.cos(math.pi * step / steps)) / 2)
    for _ in range(steps):
        optimiser.zero_grad(set_to_none=True)
        loss().backward()
        optimiser.step()
        schedule.step()


def learn_latents(bottleneck: Contextual, latents: Tensor, seed: int, steps: int) -> list[int]:
    """Whole offsets of the quality for each latent of a GOP, all else frozen."""
    model, places = differentiable(bottleneck), places_of(bottleneck)
    draws = torch.Generator().manual_seed(seed)
    offsets = torch.zeros(latents.shape[2], requires_grad=True)

    def loss() -> Tensor:
        clean = latents[torch.randint(len(latents), (1,), generator=draws)].float()
        quality = torch.randint(QUALITIES, (1,), generator=draws)

        def at(rows: Tensor) -> Tensor:
            repeated = clean.expand(len(rows), *clean.shape[1:]), quality.expand(len(rows))
            return rate_distortion(model, *repeated, rows, places)

        return (offsets * slope(at, offsets.detach(), REACH)).sum()

    learn(loss, [([offsets], OFFSET_RATE)], steps)
    whole = [round(one) for one in offsets.tolist()]
    common = round(fmean(whole))  # of all latents alike: that is another quality, and shares nothing
    return [one - common for one in whole]


def learn_slices(bottleneck: Transform, latents: Tensor, seed: int, steps: int, offsets: bool) -> Transform:
    """A copy that was trained from flat gains; with offsets, an offset of every slice's gain too."""
    torch.manual_seed(seed)
    draws = torch.Generator().manual_seed(seed)
    model, places = differentiable(bottleneck), places_of(bottleneck)
    flatten(model)
    gains = [gain for one in slices_of(model) for gain in (one.knots, one.band_gain)]
    rest = [one for one in model.parameters() if all(one is not gain for gain in gains)]
    groups = [([one.requires_grad_() for one in rest], CODEC_RATE)]
    if offsets:
        groups.append(([one.band_gain.requires_grad_() for one in slices_of(model)], GAIN_RATE))

    def loss() -> Tensor:
        clean = latents[torch.randint(len(latents), (BATCH,), generator=draws)].float()
        quality = torch.randint(QUALITIES, (BATCH,), generator=draws)
        return rate_distortion(model, clean, quality, torch.zeros(1), places).mean()

    learn(loss, groups, steps)
    model.requires_grad_(False).eval().freeze(places)
    return model


@torch.no_grad()
def slope(loss_at: Callable[[Tensor], Tensor], offsets: Tensor, reach: float) -> Tensor:
    """The gradient of a loss by central differences, from its values at 2N rows of N offsets.

    A straight-through gradient passes rounding as if it were not there: it takes the later latents' bits for cheaper
    and an error's fall for steeper than they are.
    """
    steps = reach * torch.eye(len(offsets))
    above, below = loss_at(torch.cat([offsets + steps, offsets - steps])).chunk(2)
    return (above - below) / (2 * reach)


def differentiable(bottleneck: Kind) -> Kind:
    """A copy in floats whose rate is that of the rounded symbols, which is what a file will hold.

    In training the contextual codec counts symbols with noise instead: at low rates six times as many bits.
    """
    made = copy.deepcopy(bottleneck).requires_grad_(False).train(isinstance(bottleneck, Transform))
    for module in made.modules():
        if isinstance(module, Gains):
            module.gain_integers.zero_()  # they would be taken in place of the gains
    return made


def rate_distortion(
    bottleneck: Contextual | Transform, clean: Tensor, quality: Tensor, offsets: Tensor, places: Tensor
) -> Tensor:
    """R + λD, over √λ, of clips at qualities B whose latents have offsets of their own, T or B T."""
    if isinstance(bottleneck, Transform):
        at = places[quality].round().long()[:, None].expand(-1, clean.shape[2])
    else:
        at = between(places, (quality[:, None] + offsets).clamp(0, QUALITIES - 1))
    out = bottleneck(clean, at, rotation=bottleneck.usual_rotation(clean.shape[2]))
    bpp, error = losses.bits_per_pixel(out.bits, clean), losses.squared_error(out.latents, clean)
    return losses.rate_distortion(bpp, error, places[quality], RATE)


def between(places: Tensor, levels: Tensor) -> Tensor:
    """Places of the trained scale for qualities, which need not be whole: linear, so that gradients pass."""
    below = levels.detach().floor().clamp(0, QUALITIES - 2).long()
    return places[below] + (places[below + 1] - places[below]) * (levels - below)


def places_of(bottleneck: Contextual | Transform) -> Tensor:
    """Where the 64 qualities lie on the trained scale; the contextual codec holds it in its gains alone."""
    if isinstance(bottleneck, Transform):
        return bottleneck.places.clone()
    gains = bottleneck.entropy.gains
    with torch.no_grad():
        scale = torch.linspace(0, QUALITIES - 1, 20 * (QUALITIES - 1) + 1)
        trained, stored = gains.log_gain(scale)[:, :, 0, 0], (gains.gain_integers.float() / (1 << 16)).log()
        return scale[(stored[:, None] - trained).abs().mean(2).argmin(1)]


def slices_of(bottleneck: Transform) -> list[SliceEntropy]:
    return [one for one in bottleneck.modules() if isinstance(one, SliceEntropy)]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    learning = verbs.add_parser("learn", help="train every arm with every seed")
    learning.add_argument("model")
    learning.add_argument("--latents", nargs="+", required=True, metavar="FOLDER", help="of precompute_latents.py")
    learning.add_argument("--out", type=Path, required=True, metavar="DIR")
    learning.add_argument("--steps", type=int, default=50, help="of each training (50)")
    learning.add_argument("--seeds", type=int, default=3, help="(3)")
    judging = verbs.add_parser("judge", help="code files with every trained codec, and compare")
    judging.add_argument("videos", nargs="+", type=Path)
    judging.add_argument("--out", type=Path, required=True, metavar="DIR", help="where `learn` left its models")
    judging.add_argument("--metrics", default="psnr_rgb,vmaf", metavar="NAME,…")
    arguments = parser.parse_args(argv)

    def run() -> None:
        if arguments.verb == "learn":
            learn_all(load(arguments.model), arguments)
        else:
            judge(arguments)

    return exit_code("study_offsets", run)


def learn_all(codec: GnvcVd, arguments: argparse.Namespace) -> None:
    latents = latents_in(arguments.latents, codec.backbone.vae)
    bottleneck, patterns = codec.bottleneck, dict[str, list[int]]()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for seed in range(arguments.seeds):
        if isinstance(bottleneck, Contextual):
            patterns[f"learned-{seed}"] = found = learn_latents(bottleneck, latents, seed, arguments.steps)
            write_text(arguments.out / PATTERNS, json.dumps(patterns))
            print(f"learned-{seed}", *(f"{one:+d}" for one in found), flush=True)
        elif isinstance(bottleneck, Transform):
            for arm in ARMS:
                trained, name = (
                    learn_slices(bottleneck, latents, seed, arguments.steps, arm == ARMS[1]),
                    f"{arm}-{seed}",
                )
                save(replace(codec, bottleneck=trained), arguments.out / name, name, location="tiny")
                print(name, flush=True)


@torch.inference_mode()
def judge(arguments: argparse.Namespace) -> None:
    metrics, rows = arguments.metrics.split(","), list[Row]()
    videos = {video.stem: next(clips(video, 1)) for video in arguments.videos}
    for name, clip in videos.items():
        write_video(arguments.out / f"{name}.mkv", clip)
    latents = dict[str, Gop]()  # of the VAE, which all share
    for folder in sorted(path.parent for path in arguments.out.glob(f"{ARMS[0]}*-*/model.json")):
        codec, files = load(folder), dict[Path, tuple[str, int]]()
        out = arguments.out / "files" / folder.name
        out.mkdir(parents=True, exist_ok=True)
        for name, clip in videos.items():
            gop = latents[name] = latents.get(name) or next(codec.latents(clip, SETTINGS))
            for level in LEVELS:
                files[out / f"{name} {level}.gnvc"] = name, level
                stream = pack_stream(codec.header(info_of(clip), SETTINGS), [codec.encode_gop(0, gop, level, SETTINGS)])
                (out / f"{name} {level}.gnvc").write_bytes(stream)
        shown = decode_apart(["lab.coded_files", str(folder)], list(files), out, ["--steps", "0"])
        for (file, (name, level)), decoded in zip(files.items(), shown, strict=True):
            pair, pixels = (arguments.out / f"{name}.mkv", decoded), videos[name][..., 0].size
            rows.append(measured(folder.name, name, level, file.stat().st_size, pair, metrics, pixels))
        keep(arguments.out / "rows.jsonl", rows)
    for line in table(rows, metrics):
        print(line)


def table(rows: Sequence[Row], metrics: Sequence[str]) -> Iterator[str]:
    """The rate with offsets in percent of that without, seed by seed: the mean over seeds ± the standard deviation."""
    videos, names = (sorted({getattr(row, key) for row in rows}) for key in ("sequence", "codec"))
    yield f"| | {' | '.join(metrics)} |"
    yield "|---|" + "---|" * len(metrics)
    for video in videos:
        own, cells = [row for row in rows if row.sequence == video], []
        for metric in metrics:
            each = [rate_of(own, name, name.replace(*ARMS), metric) for name in names if name.startswith(f"{ARMS[0]}-")]
            cells.append(f"{fmean(each):+.1f} ± {stdev(each) if len(each) > 1 else math.nan:.1f} %")
        yield f"| {video} | {' | '.join(cells)} |"


def latents_in(folders: Sequence[str], vae: VideoVae) -> Tensor:
    stored = [LatentClips(folder, encoder_identity(vae)) for folder in folders]
    latents = torch.stack([one[number].half() for one in stored for number in range(len(one))])
    require(latents.shape[2] == LATENTS, f"the latents are {latents.shape[2]} a clip, but a GOP has {LATENTS}")
    return latents


@torch.no_grad()
def flatten(bottleneck: Transform) -> None:
    """Give all slices the smooth band's mean gain; what channels of a slice have beside its mean stays."""
    smooth, *_ = slices_of(bottleneck)
    mean = (smooth.knots + smooth.band_gain).mean(2, keepdim=True)  # knots, 1, 1
    for model in slices_of(bottleneck):
        model.knots.copy_(model.knots - model.knots.mean(2, keepdim=True) + mean)
        model.band_gain.zero_()


if __name__ == "__main__":
    raise SystemExit(main())
