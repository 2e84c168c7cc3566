"""What a leg of training consists of, and how large its clips are on a CPU and on a GPU.

    vae ─▶ latents ─▶ prior beside warm-up ─▶ latent ─▶ pixel ─▶ what is written at the end

A span's steps are shares of its phase's time (docs/training.md, A budget of time). Whatever is not said here is as in
configs/train/experiment/tiny_*.yaml.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig

from gnvc_vd.common.strict import without_defaults
from gnvc_vd.conventions import UsageError
from gnvc_vd.train.experiments import register
from gnvc_vd.train.settings import Span, Weights

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
Device = Literal["cpu", "cuda"]
# Of a leg's time. Latents are made, and the end is written, in time of their own.
SHARES = {"vae": 0.4, "latents": 0.05, "prior": 0.25, "warmup": 0.25, "latent": 0.08, "pixel": 0.15, "end": 0.07}
ORDER = (("vae",), ("latents",), ("prior", "warmup"), ("latent",), ("pixel",), ("end",))
PHASES = ("vae", "prior", "warmup", "latent", "pixel")
CODEC = ("warmup", "latent", "pixel")
# Settings of scripts/train.py.
ALL_PHASES = ("run.validate_every=0", "run.save_every=0", "run.keep=2", "run.compile=false", "run.clips=4")
BY_THE_CLOCK = (
    "++stage.optimisation.warmup=4",
    "++stage.optimisation.ema=0.99",
)  # of the 100 steps that stand for a phase
BY_DEVICE: dict[Device, tuple[str, ...]] = {
    "cpu": ("run=cpu", "run.precision=auto", "run.workers=0", "run.log_every=10", "++data.train.bank.clips=256"),
    "cuda": ("run=gpu_1", "run.capture=true", "run.log_every=50", "++data.train.bank.clips=4096"),
}

# A VAE learns pixels alone, then through transform codes whose bits count; on a GPU by what is seen, too.
PLAIN = Weights(absolute=1.0, squared=4.0, divergence=1e-6, temporal=0.25)
CODED = replace(PLAIN, temporal=0.5, rate=3.0, lattice=30.0)
SEEN = replace(CODED, perceptual=0.1, perceptual_half=0.05)
COARSEST = 1.5
SPANS: dict[Device, dict[str, tuple[Span, ...]]] = {
    "cpu": {
        "vae": (
            Span(30, 9, 48, 4, weights=PLAIN),
            Span(50, 9, 64, 4, weights=CODED, coarsest=COARSEST),
            Span(20, 25, 64, 2, weights=CODED, coarsest=COARSEST),
        ),
        "prior": (Span(70, 9, 64, 4), Span(30, 25, 64, 2)),
        "warmup": (Span(100, 33, 96, 4),),
        "latent": (Span(100, 17, 96, 4),),
        "pixel": (Span(100, 9, 64, 2),),
    },
    "cuda": {
        "vae": (
            Span(12, 9, 128, 32, weights=PLAIN),
            Span(33, 17, 128, 24, weights=CODED, coarsest=COARSEST),
            Span(30, 17, 128, 24, weights=SEEN, coarsest=COARSEST),
            Span(25, 25, 160, 16, weights=SEEN, coarsest=COARSEST),
        ),
        "prior": (Span(100, 25, 160, 32),),
        "warmup": (Span(100, 33, 224, 8),),
        "latent": (Span(100, 17, 128, 16),),
        "pixel": (Span(100, 17, 128, 8),),
    },
}
LEARNING_RATES = {"vae": (1e-3, 4e-4), "prior": (1e-3, 5e-4)}  # from nothing, and of a model that goes on
BY_PHASE: dict[str, tuple[str, ...]] = {
    "vae": ("++stage.perceptual=st_lpips_vgg", "++stage.perceptual_views=true", "++stage.perceptual_frames=2"),
    "prior": ("++stage.repeats=4",),
    "pixel": ("++stage.weights.lattice=60",),
}


def experiment(phase: str, device: Device, goes_on: bool) -> tuple[str, ...]:
    """The words that would follow scripts/train.py, but for data, start, and time.

    Args:
        goes_on: from a model, whose VAE and transformer need not begin with what is easy.
    """
    spans = SPANS[device][phase]
    if goes_on and phase == "vae":
        spans = tuple(span for span in spans if span.coarsest)
    words = [f"experiment=tiny_{phase}", *BY_DEVICE[device], *ALL_PHASES, *BY_THE_CLOCK, *BY_PHASE.get(phase, ())]
    words.append("stage.spans=" + json.dumps(without_defaults(spans)).replace('"', ""))
    if phase in LEARNING_RATES:
        words.append(f"stage.optimisation.rate={LEARNING_RATES[phase][goes_on]}")
    return tuple(words)


def register_configs() -> None:
    register(CONFIGS)


def compose(words: tuple[str, ...]) -> DictConfig:
    register_configs()
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
            return hydra.compose("train", list(words))
    except HydraException as error:
        raise UsageError(f"these settings make no training: {error}".partition("\n")[0]) from error


def shares_of(text: str) -> dict[str, float]:
    """`vae=0.3,pixel=0`: those that are named, others as by default."""
    shares = dict(SHARES)
    for one in filter(None, text.split(",")):
        name, _, value = one.partition("=")
        try:
            shares[name] = float(value)
        except ValueError:
            shares[name] = -1.0
        if name not in SHARES or not 0 <= shares[name] <= 1000:
            raise UsageError(f"a share is one of {', '.join(SHARES)}, as vae=0.3: not {one!r}")
    if not any(shares[name] for name in PHASES):
        raise UsageError("no phase has a share of the time")
    if not (shares["warmup"] or shares["latent"]):
        shares["latents"] = 0.0
    return shares
