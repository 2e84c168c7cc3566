"""Train tiny, or a model of its size, in a given time: python -m lab.tiny.train --budget 20min --out FOLDER

    material ─▶ vae ─▶ latents ─▶ prior beside warm-up ─▶ Stage I ─▶ Stage II ─▶ FOLDER/model

Every phase has a share of the time and ends by the clock. Stopped, or killed, the same command goes on with what is
left; a killed one loses at most a minute. FOLDER then holds

    model/         for --model: with a card, the curves, and the record of every leg that made it
    record.json    the request, what each part took, and the codec's curve
    runs/          a folder of scripts/train.py for each phase

A leg can be continued by another, --from FOLDER/model: VAE and transformer then learn on, and a codec is made anew for
a VAE that has moved. Settings that follow are those of scripts/train.py, for all phases: model=nano, data=device
data.photos=MANIFEST, stage.optimisation.rate=1e-4.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor
from tqdm import tqdm

from gnvc_vd.backbone.folder import DESCRIPTION, read_description
from gnvc_vd.backbone.sources import model_folder
from gnvc_vd.backbone.streaming import VideoVae
from gnvc_vd.backbone.weights import load_backbone
from gnvc_vd.common.files import replacing
from gnvc_vd.common.interruption import interruptible
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.data.clips import ClipSpec
from gnvc_vd.data.latents import INDEX, LatentIndex, encoder_identity, precompute, read_index
from gnvc_vd.data.samples import Clips, LoaderOptions
from gnvc_vd.train.checkpoint import Checkpoints, State, read_state
from gnvc_vd.train.compose import sources_of, training_of
from gnvc_vd.train.export import HYDRA, REFIT_CLIPS, VAE_CLIPS, export
from gnvc_vd.train.loop import CHECKPOINTS, Sources, spec_of, train, validation_clips
from gnvc_vd.train.stages.picture_terms import perceptual_of
from gnvc_vd.video.pixels import to_model
from lab.plot_run import plot_runs
from lab.tiny.beside import BackgroundTraining
from lab.tiny.card import CURVES, curve_of, environment_of, legs_of, table, write_beside
from lab.tiny.leg import Leg, Record
from lab.tiny.phases import CODEC, ORDER, PHASES, SHARES, compose, experiment, shares_of

NOTHING = "nothing"
ENCODED_AT_ONCE, FEWEST, MOST = 8, 128, 4096  # clips whose latents are made before the codec trains on them
KEPT_EVERY = 20.0  # seconds of them that a stop may lose
CURVE_CLIPS = 4


def main(argv: Sequence[str] | None = None) -> int:
    shares = ", ".join(f"{name}={share}" for name, share in SHARES.items())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", required=True, help="time, as 8min, 90s or 1.5h")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--from", dest="start", default="tiny", help=f"tiny, a model folder, or {NOTHING} (tiny)")
    parser.add_argument("--data", type=Path, default=Path("data/tiny"), help="made by lab.tiny.fetch_data (data/tiny)")
    parser.add_argument("--shares", default="", help=f"of the time, as vae=0.3,pixel=0 ({shares})")
    parser.add_argument("settings", nargs="*", metavar="SETTING", help="of scripts/train.py")
    arguments = parser.parse_intermixed_args(argv)
    try:
        with interruptible():  # also where a library drops an exception
            leg = Leg(arguments.out.resolve(), record_of(arguments), ORDER)
            LegRunner(leg).run()
    except GnvcError as error:
        print(f"train: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        print(f"train: stopped; the same command goes on from {arguments.out}", file=sys.stderr)
        return 130
    return 0


def record_of(arguments: argparse.Namespace) -> Record:
    require(arguments.device == "cpu" or torch.cuda.is_available(), "there is no CUDA device; --device cpu needs none")
    settings = tuple(arguments.settings)
    if not any(setting.startswith("data=") for setting in settings):
        folder: Path = arguments.data
        require(folder.is_dir(), f"{folder}: missing; python -m lab.tiny.fetch_data {folder} makes it, or give --data")
        settings = ("data=tiny_device", f"data.folder={folder}", *settings)
    return Record(arguments.budget, arguments.device, arguments.start, shares_of(arguments.shares), settings)


class LegRunner:
    """The phases of a leg, one after another."""

    def __init__(self, leg: Leg) -> None:
        self.leg, self.request = leg, leg.record
        self.runs, self.models, self.latents = (leg.out / name for name in ("runs", "models", "latents"))
        self.models.mkdir(exist_ok=True)
        start = None if self.request.start == NOTHING else self.request.start
        self.backbone = start  # the newest VAE and transformer
        self.codec = start if start is not None and has_codec(start) else None  # the newest on the newest backbone
        self.phases = [phase for phase in PHASES if self.request.shares[phase]]
        if {"vae", "prior"} & set(self.phases) and {"latent", "pixel"} & set(self.phases):
            require("warmup" in self.phases, "a codec goes on from one of the same leg: give warmup a share, too")
        for phase in self.phases:  # fails now instead of after hours
            perceptual_of(training_of(self.config(phase)).stage)
        data = self.composed(self.phases[0]).data
        sources, self.validation = sources_of(data.train), sources_of(data.validation)
        if sources is None or self.validation is None:
            raise UsageError("data.train and data.validation are both needed")
        self.sources: Sources = sources

    def run(self) -> None:
        if "vae" in self.phases:
            self.train("vae")
            self.backbone, self.codec = self.exported("vae"), None
        if {"warmup", "latent"} & set(self.phases):
            self.store_latents()
        self.transformer_beside_codec()
        for phase in ("latent", "pixel"):
            if phase in self.phases:
                self.train(phase)
                self.codec = self.exported(phase)
        self.end()

    def transformer_beside_codec(self) -> None:
        """Train both at once: they need only the VAE. Then put the codec on the transformer."""
        with ExitStack() as stack:
            beside = None
            if "prior" in self.phases and not self.leg.is_done("prior"):
                config, threads = self.begun("prior"), torch.get_num_threads()
                both = "warmup" in self.phases and not self.leg.is_done("warmup")
                half = max(1, threads // 2) if both else threads
                self.leg.raise_seconds("prior", self.seconds("prior"))
                stack.enter_context(self.leg.timed("prior"))
                beside = BackgroundTraining(config, self.runs / "prior", half)
                torch.set_num_threads(half)
                stack.callback(torch.set_num_threads, threads)
            if "warmup" in self.phases:
                self.train("warmup")
            if beside is not None:
                tqdm.write(f"waiting for the transformer; it says how it is in {beside.log}", file=sys.stderr)
                beside.wait()
        if beside is not None:
            self.leg.end("prior", self.steps("prior"))
        if "prior" in self.phases:
            self.backbone = self.exported("prior")
        if "warmup" in self.phases:
            self.codec = self.exported("warmup")

    def composed(self, phase: str) -> DictConfig:
        return compose((*experiment(phase, self.request.device, self.backbone is not None), *self.request.settings))

    def config(self, phase: str) -> DictConfig:
        """Of scripts/train.py for a phase, as things stand."""
        config = self.composed(phase)
        with open_dict(config):
            config.model.start = self.codec if phase in CODEC and self.codec is not None else self.backbone
            if phase in CODEC:
                config.model.begin = None if self.codec is not None else "measured"
            if phase in ("warmup", "latent"):
                made = {"_target_": "gnvc_vd.train.compose.stored_latents", "folder": str(self.latents)}
                made |= {"name": config.model.name, "start": config.model.start}
                config.data.train = {"parts": [{"weight": 1.0, "source": made}]}
        return config

    def begun(self, phase: str) -> DictConfig:
        """With the time that it has."""
        config = self.config(phase)
        config.run.budget = f"{self.leg.begin(phase):.1f}s"
        return config

    def train(self, phase: str) -> None:
        if self.leg.is_done(phase):
            return
        self.leg.raise_seconds(phase, self.seconds(phase))
        config = self.begun(phase)
        sources = None if phase in ("warmup", "latent") else self.sources
        with self.leg.timed(phase):
            train_run(config, self.runs / phase, sources, self.validation)
        self.leg.end(phase, self.steps(phase))

    def exported(self, phase: str) -> str:
        """Its model, on the newest backbone."""
        folder = self.models / phase
        if not folder.is_dir():
            backbone = self.backbone if phase == "warmup" else None
            clips = self.clips(phase, VAE_CLIPS) if phase == "vae" else None
            export(self.runs / phase, folder, clips=clips, backbone=backbone)
        return str(folder)

    def store_latents(self) -> None:
        """Precompute as many latents as time allows, in the codec's largest clip size."""
        if self.leg.is_done("latents"):
            return
        trainings = [training_of(self.config(phase)) for phase in ("warmup", "latent") if phase in self.phases]
        spans, run = [spec_of(span, one) for one in trainings for span in one.stage.spans], trainings[0].run
        frames, size = (max(getattr(spec, name) for spec in spans) for name in ("frames", "height"))
        seconds, device = self.leg.begin("latents"), torch.device(self.request.device)
        with self.leg.timed("latents"):
            spec = ClipSpec(frames, size, size, seed=spans[0].seed)
            loading = LoaderOptions(run.workers, device, run.memory)
            clips, vae = self.sources(spec), load_backbone(str(self.backbone)).to(device).vae
            there = (self.latents / INDEX).is_file()
            index = read_index(self.latents) if there else planned(clips, spec, vae, seconds, loading)
            with tqdm(total=index.count, desc="latents", unit="clip", disable=None) as bar:
                precompute(clips, vae, self.latents, index, ENCODED_AT_ONCE, loading, bar.update)
        self.leg.end("latents")

    def clips(self, phase: str, count: int) -> list[Tensor]:
        """Of the validation, as large as those of a phase."""
        assert self.validation is not None
        return validation_clips(self.validation, training_of(self.config(phase)), count)

    def steps(self, phase: str) -> int:
        state = self.state(phase)
        return 0 if state is None else state.step

    def seconds(self, phase: str) -> float:
        state = self.state(phase)
        return 0.0 if state is None else state.seconds

    def state(self, phase: str) -> State | None:
        """Of its newest checkpoint."""
        latest = Checkpoints(self.runs / phase / CHECKPOINTS, 1).latest()
        return None if latest is None else read_state(latest)

    def end(self) -> None:
        """The model with its card; of a codec, where its qualities lie and its curve."""
        out = self.leg.out / "model"
        if not (self.leg.is_done("end") and out.is_dir()):
            self.leg.begin("end")
            with self.leg.timed("end"):
                last = self.finished()
            self.leg.note(**environment_of(self.runs / self.phases[0]))
            self.leg.end("end")
            with replacing(out) as part:
                shutil.copytree(last, part)
                plot_runs([self.runs / phase for phase in self.phases], part / CURVES)
                write_beside(part, [*legs_of(self.request.start), self.leg.record])
        curve = self.leg.record.curve
        print(table(curve) if curve else "no codec was trained: a backbone, without a curve")
        print(f"{out}; another leg goes on with --from {out}")

    def finished(self) -> str:
        """The model of the last phase, its qualities evenly placed."""
        trained = [phase for phase in CODEC if phase in self.phases]
        if not trained:
            return str(self.backbone)
        folder, backbone = self.models / "end", self.backbone if trained[-1] == "warmup" else None
        clips = self.clips(trained[-1], REFIT_CLIPS)
        export(self.runs / trained[-1], folder, refit=True, half=True, name="tiny", clips=clips, backbone=backbone)
        self.leg.note(curve=curve_of(folder, clips[:CURVE_CLIPS]))
        return str(folder)


def planned(clips: Clips, spec: ClipSpec, vae: VideoVae, seconds: float, loading: LoaderOptions) -> LatentIndex:
    """As many latents as there is time for, by what a few take."""
    numbers = [list(range(at, at + ENCODED_AT_ONCE)) for at in (0, ENCODED_AT_ONCE)]
    ends = list[float]()
    for taken in clips.batches(numbers, loading):  # before the first, files are decoded
        with torch.inference_mode():
            vae.encode(to_model(taken.to(loading.device)))
        ends.append(time.monotonic())
    each = (ends[1] - ends[0]) / ENCODED_AT_ONCE
    count = int(min(MOST, max(FEWEST, seconds / each)))
    shard = int(min(count, max(ENCODED_AT_ONCE, KEPT_EVERY / each)))
    return LatentIndex(encoder_identity(vae), spec, "lab.tiny.train", count, True, shard)


def train_run(config: DictConfig, run: Path, sources: Sources | None = None, validation: Sources | None = None) -> None:
    """As scripts/train.py does, with its record of the configuration.

    Args:
        sources, validation: what has decoded its material already, in place of the configuration's.
    """
    (run / HYDRA).parent.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, run / HYDRA)
    train_sources = sources or sources_of(config.data.train)
    assert train_sources is not None
    train(training_of(config), train_sources, validation or sources_of(config.data.validation), run)


def has_codec(model: str) -> bool:
    folder = model_folder(model)
    return (folder / DESCRIPTION).is_file() and read_description(folder).codec is not None


if __name__ == "__main__":
    raise SystemExit(main())
