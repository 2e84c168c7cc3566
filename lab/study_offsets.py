"""Quality by latent and by slice, learned under R + λD: what offsets are worth beside a codec trained as long.

python -m lab.study_offsets learn MODEL --latents FOLDER… --out DIR [--steps 100] [--seeds 3]
python -m lab.study_offsets judge VIDEO… --out DIR

`learn` trains arms that start from MODEL on the same batches and with the same noise, with every seed. MODEL has either
latent codec, and latents are those of its training (scripts/precompute_latents.py), clips of 25 frames.

    contextual   offsets           an offset of the quality for each latent of a GOP; all else is frozen
                 codec             the codec, without offsets
                 codec+offsets     both
    transform    codec             all but the gains, in which the slices' qualities are
                 codec+offsets     and an offset of the gain for each slice
                 flat              as `codec`, after the slices' gains were made equal to the lowest one's
                 flat+offsets      as `codec+offsets`, after the same

Trained codecs become model folders under DIR, with integers of their own. Offsets of latents are rounded to whole
qualities, as a policy that a decoder would know by number; DIR/patterns.json has those of the frozen codec, which
lab.study_choices measures. `judge` writes a file for each trained codec, video and quality, decodes the files in
another process without refinement, and prints each arm's rate in percent of its anchor's at equal PSNR and
ColorVideoVDP (BD-rate): the mean over seeds ± their standard deviation. Figures of files are kept in DIR/rows.jsonl.
"""

import argparse
import copy
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import cast

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
from gnvc_vd.learned.bottleneck.base import Bottleneck
from gnvc_vd.learned.bottleneck.contextual import Contextual
from gnvc_vd.learned.bottleneck.gains import Gains
from gnvc_vd.learned.bottleneck.policies import POLICIES
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
    levels_of,
    measured,
    read_patterns,
    write_video,
)
from lab.study_choices import LEVELS, SETTINGS, rate_of

LATENTS = 7  # of a GOP of 25 frames
RATE = Rate(smallest=0.005, largest=12.0)  # that the shipped codecs were trained with
BATCH, FEWER, CODEC_RATE = 4, 1, 2e-4  # clips of a step, and those that differences are taken on
OFFSET_RATE, GAIN_RATE, REACH = 0.5, 0.02, 4.0  # rates of offsets in qualities, of log gains; steps of differences
FLAT, OFFSETS = "flat", "offsets"  # parts of arms' names
PATTERNS = "patterns.json"
PAIRS = (("codec+offsets", "codec"), ("flat+offsets", "flat"), ("flat", "codec"))  # of arms and their anchors
ARMS = {
    "contextual": ("offsets", "codec", "codec+offsets"),
    "transform": ("codec", "codec+offsets", "flat", "flat+offsets"),
}


def learn(loss: Callable[[], Tensor], parameters: Sequence[tuple[list[Tensor], float]], steps: int) -> None:
    """Minimise a loss with Adam, each group of parameters at its own rate, which falls to zero along a cosine."""
    optimiser = torch.optim.Adam([{"params": those, "lr": rate} for those, rate in parameters])
    schedule = LambdaLR(optimiser, lambda step: (1 + math.cos(math.pi * step / steps)) / 2)
    for _ in range(steps):
        optimiser.zero_grad(set_to_none=True)
        loss().backward()
        optimiser.step()
        schedule.step()


def learn_arm(codec: GnvcVd, latents: Tensor, arm: str, seed: int, steps: int) -> tuple[Bottleneck, list[int]]:
    """A trained copy of the codec's bottleneck, and whole offsets of its latents' qualities."""
    torch.manual_seed(seed)
    draws = torch.Generator().manual_seed(seed)
    places, bottleneck = places_of(codec.bottleneck), differentiable(codec.bottleneck)
    offsets = torch.zeros(LATENTS, requires_grad=True)
    if FLAT in arm:
        flatten(bottleneck)
    offsets_learn = arm.endswith(OFFSETS) and isinstance(bottleneck, Contextual)
    groups = [([offsets], OFFSET_RATE)] if offsets_learn else []
    if arm != OFFSETS:
        gains = [one for model in slices_of(bottleneck) for one in (model.knots, model.band_gain)]
        rest = [one for one in bottleneck.parameters() if all(one is not gain for gain in gains)]
        groups.append(([one.requires_grad_() for one in rest], CODEC_RATE))
    if arm.endswith(OFFSETS) and isinstance(bottleneck, Transform):
        groups.append(([model.band_gain.requires_grad_() for model in slices_of(bottleneck)], GAIN_RATE))

    def loss() -> Tensor:
        clean = latents[torch.randint(len(latents), (BATCH,), generator=draws)].float()
        quality = torch.randint(QUALITIES, (BATCH,), generator=draws)
        value = torch.zeros(())
        if arm != OFFSETS:
            value = rate_distortion(bottleneck, clean, quality, offsets.detach(), places).mean()
        if offsets_learn:
            few = clean[:FEWER].repeat_interleave(2 * LATENTS, 0), quality[:FEWER].repeat_interleave(2 * LATENTS)

            def at(rows: Tensor) -> Tensor:
                each = rate_distortion(bottleneck, *few, rows.repeat(FEWER, 1), places)
                return each.unflatten(0, (FEWER, -1)).mean(0)

            value = value + (offsets * slope(at, offsets.detach(), REACH)).sum()
        return value

    learn(loss, groups, steps)
    bottleneck.requires_grad_(False).eval()
    if arm != OFFSETS:
        bottleneck.freeze(places)
    whole = [round(one) for one in offsets.tolist()]
    common = round(fmean(whole))  # of all latents alike: that is another quality, and shares nothing
    return bottleneck, [one - common for one in whole]


@torch.no_grad()
def slope(loss_at: Callable[[Tensor], Tensor], offsets: Tensor, reach: float) -> Tensor:
    """The gradient of a loss by central differences, from its values at 2N rows of N offsets.

    A straight-through gradient passes rounding as if it were not there: it takes the later latents' bits for cheaper
    and an error's fall for steeper than they are.
    """
    steps = reach * torch.eye(len(offsets))
    above, below = loss_at(torch.cat([offsets + steps, offsets - steps])).chunk(2)
    return (above - below) / (2 * reach)


def differentiable(bottleneck: Bottleneck) -> Bottleneck:
    """A copy in floats whose rate is that of the rounded symbols, which is what a file will hold.

    In training the contextual codec counts symbols with noise instead: at low rates six times as many bits.
    """
    made = copy.deepcopy(bottleneck).requires_grad_(False).train(isinstance(bottleneck, Transform))
    for module in made.modules():
        if isinstance(module, Gains):
            module.gain_integers.zero_()  # they would be taken in place of the gains
    return made


def rate_distortion(bottleneck: Bottleneck, clean: Tensor, quality: Tensor, offsets: Tensor, places: Tensor) -> Tensor:
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


def places_of(bottleneck: Bottleneck) -> Tensor:
    """Where the 64 qualities lie on the trained scale; the contextual codec holds it in its gains alone."""
    if isinstance(bottleneck, Transform):
        return bottleneck.places.clone()
    gains = cast(Contextual, bottleneck).entropy.gains
    with torch.no_grad():
        scale = torch.linspace(0, QUALITIES - 1, 20 * (QUALITIES - 1) + 1)
        trained, stored = gains.log_gain(scale)[:, :, 0, 0], (gains.gain_integers.float() / (1 << 16)).log()
        return scale[(stored[:, None] - trained).abs().mean(2).argmin(1)]


def slices_of(bottleneck: Bottleneck) -> list[SliceEntropy]:
    return [one for one in bottleneck.modules() if isinstance(one, SliceEntropy)]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    learning = verbs.add_parser("learn", help="train every arm with every seed")
    learning.add_argument("model")
    learning.add_argument("--latents", nargs="+", required=True, metavar="FOLDER", help="of precompute_latents.py")
    learning.add_argument("--out", type=Path, required=True, metavar="DIR")
    learning.add_argument("--steps", type=int, default=100, help="of each training (100)")
    learning.add_argument("--seeds", type=int, default=3, help="(3)")
    judging = verbs.add_parser("judge", help="code files with every trained codec, and compare")
    judging.add_argument("videos", nargs="+", type=Path)
    judging.add_argument("--out", type=Path, required=True, metavar="DIR", help="where `learn` left its models")
    judging.add_argument("--metrics", default="psnr_rgb,cvvdp", metavar="NAME,…")
    arguments = parser.parse_args(argv)

    def run() -> None:
        if arguments.verb == "learn":
            learn_all(load(arguments.model), arguments)
        else:
            judge(arguments)

    return exit_code("study_offsets", run)


def learn_all(codec: GnvcVd, arguments: argparse.Namespace) -> None:
    latents = latents_in(arguments.latents, codec.backbone.vae)
    patterns = dict[str, list[int]]()
    for seed in range(arguments.seeds):
        for arm in ARMS[codec.bottleneck.preset.kind]:
            bottleneck, offsets = learn_arm(codec, latents, arm, seed, arguments.steps)
            name = f"{arm}-{seed}"
            if arm == OFFSETS:
                patterns[name] = offsets
            else:
                save(replace(codec, bottleneck=bottleneck), arguments.out / name, name, location="tiny")
                write_text(arguments.out / f"{name}.json", json.dumps({name: offsets}))
            print(name, *(f"{one:+d}" for one in offsets), flush=True)
    write_text(arguments.out / PATTERNS, json.dumps(patterns))


@torch.inference_mode()
def judge(arguments: argparse.Namespace) -> None:
    metrics, rows = arguments.metrics.split(","), list[Row]()
    trained = sorted(path.parent for path in arguments.out.glob("*-*/model.json"))
    for video in arguments.videos:
        (clip,) = clips(video, 1)
        original = arguments.out / f"{video.stem}.mkv"
        write_video(original, clip)
        gop: Gop | None = None
        for folder in trained:
            codec, patterns = load(folder), folder.with_name(f"{folder.name}.json")
            gop = gop or next(codec.latents(clip, SETTINGS))  # of the VAE, which all share
            (pattern,) = read_patterns(patterns).values()
            files, header = [], codec.header(info_of(clip), SETTINGS)
            (arguments.out / "files" / folder.name).mkdir(parents=True, exist_ok=True)
            for level in LEVELS:
                unit = codec.encode_levels(0, gop, level, levels_of(pattern, level), SETTINGS)
                unit = replace(unit, policy=len(POLICIES) if any(pattern) else 0)
                files.append(arguments.out / "files" / folder.name / f"{video.stem} {level}.gnvc")
                files[-1].write_bytes(pack_stream(header, [unit]))
            options = ["--steps", "0", "--patterns", str(patterns)]
            shown = decode_apart(["lab.coded_files", str(folder)], files, files[0].parent, options)
            for level, file, decoded in zip(LEVELS, files, shown, strict=True):
                pair, size = (original, decoded), file.stat().st_size
                rows.append(measured(folder.name, video.stem, level, size, pair, metrics, clip[..., 0].size))
            keep(arguments.out / "rows.jsonl", rows)
    for line in table(rows, metrics):
        print(line)


def table(rows: Sequence[Row], metrics: Sequence[str]) -> Iterator[str]:
    """Each arm beside its anchor, seed by seed: the mean over seeds ± the standard deviation."""
    videos, names = (sorted({getattr(row, key) for row in rows}) for key in ("sequence", "codec"))
    seeds = sorted({name.rpartition("-")[2] for name in names})
    yield f"| arm | beside | {' | '.join(f'{video}: {metric}' for video in videos for metric in metrics)} |"
    yield "|---|---|" + "---|" * (len(videos) * len(metrics))
    for arm, anchor in PAIRS:
        if f"{arm}-{seeds[0]}" not in names:
            continue
        cells = []
        for video in videos:
            own = [row for row in rows if row.sequence == video]
            for metric in metrics:
                each = [rate_of(own, f"{anchor}-{seed}", f"{arm}-{seed}", metric) for seed in seeds]
                cells.append(f"{fmean(each):+.1f} ± {stdev(each) if len(each) > 1 else math.nan:.1f} %")
        yield f"| {arm} | {anchor} | {' | '.join(cells)} |"


def latents_in(folders: Sequence[str], vae: VideoVae) -> Tensor:
    stored = [LatentClips(folder, encoder_identity(vae)) for folder in folders]
    latents = torch.stack([one[number].half() for one in stored for number in range(len(one))])
    require(latents.shape[2] == LATENTS, f"the latents are {latents.shape[2]} a clip, but a GOP has {LATENTS}")
    return latents


@torch.no_grad()
def flatten(bottleneck: Bottleneck) -> None:
    """Give all slices the smooth band's mean gain; what channels of a slice have beside its mean stays."""
    smooth, *_ = slices_of(bottleneck)
    mean = (smooth.knots + smooth.band_gain).mean(2, keepdim=True)  # knots, 1, 1
    for model in slices_of(bottleneck):
        model.knots.copy_(model.knots - model.knots.mean(2, keepdim=True) + mean)
        model.band_gain.zero_()


if __name__ == "__main__":
    raise SystemExit(main())
