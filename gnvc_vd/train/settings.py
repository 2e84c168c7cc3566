"""Settings of a training: dataclasses that Hydra's plain data is parsed into, strictly, and that each run stores.

The phase decides which networks and losses there are; everything that papers vary (clip lengths, loss weights, trained
parts, rates) is a field here and a line in `configs/`.
"""

import math
import re
from dataclasses import dataclass, replace
from itertools import accumulate

from gnvc_vd.bitstream.refinement import MAX_RATIO, Refinement
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import QUALITIES, UsageError
from gnvc_vd.presets import AdaptorPreset, BottleneckKind

PHASES = ("vae", "prior", "codec")
GROUPS = ("encoder", "decoder", "dit", "codec", "correction", "adaptor")  # the first two are the VAE's
CORRECTION = "correction"  # the transform codec's network that corrects decoded latents; no symbol depends on it
BEHIND_SYMBOLS = (CORRECTION, "adaptor", "decoder")
DISCRIMINATOR = "discriminator"  # always trained if there is one
UNITS = {"s": 1, "min": 60, "h": 3600}
SCHEDULES = ("constant", "cosine", "steps")
PRECISIONS = ("no", "bf16", "auto")
PERCEPTUAL = ("lpips_vgg", "lpips_alex", "st_lpips_vgg", "st_lpips_alex", "dists")


def seconds_of(time: str) -> float:
    """Parse a time such as 90s, 8min or 1.5h."""
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)(s|min|h)", time)
    seconds = 0.0 if match is None else float(match[1]) * UNITS[match[2]]
    require(seconds > 0, f"a budget is a positive time such as 90s, 8min or 1.5h: not {time!r}")
    return seconds


@dataclass(frozen=True)
class Weights:
    """Weights of the loss terms; a term of weight 0 is not computed."""

    decoded: float = 0.0  # ‖x_c − x_1‖², times λ
    refined: float = 0.0  # ‖x̃_1 − x_1‖², times λ
    pixel: float = 0.0  # ‖Ṽ − V‖², times λ
    perceptual: float = 0.0  # LPIPS(V, Ṽ), times λ; for a VAE without λ
    perceptual_half: float = 0.0  # the same at half the resolution
    lattice: float = 0.0  # patterns in Ṽ − V at the decoder's strides, times λ; for a VAE without λ
    adversarial: float = 0.0  # discriminator gradient, at most this share of the pixel losses' (adversary.py)
    cfm: float = 0.0  # L_CFM, to the adaptor alone or to the codec too (cfm_detached)
    absolute: float = 0.0  # VAE: |Ṽ − V|
    squared: float = 0.0  # VAE: ‖Ṽ − V‖²
    divergence: float = 0.0  # VAE: KL divergence of the posterior from the unit normal
    temporal: float = 0.0  # VAE: |ΔṼ − ΔV|, Δ from frame to frame
    features: float = 0.0  # light decoder: distance of its features from the teacher's (stages/teacher.py)
    rate: float = 0.0  # VAE: bits per pixel of its latents in a transform code, times the code's level

    @property
    def discriminator(self) -> float:
        """Weight of the discriminator's own loss: AdamW is invariant to it, and a small one keeps its share of
        the clipped gradient norm small.
        """
        return 0.01 if self.adversarial else 0.0

    @property
    def perceive(self) -> bool:
        """Whether the loss has a perceptual term."""
        return bool(self.perceptual or self.perceptual_half)

    @property
    def of_pictures(self) -> bool:
        """Whether the loss needs decoded frames, beside latents."""
        return bool(self.pixel or self.perceive or self.lattice or self.adversarial)


@dataclass(frozen=True)
class Span:
    """A part of the training, with clips of one shape."""

    steps: int
    frames: int
    size: int  # of the square crops
    batch: int  # clips per step, over all processes
    short_side: int | None = None  # larger videos are downscaled to this before they are cropped
    weights: Weights | None = None  # vae: weights in this span; None: the stage's
    coarsest: float | None = None  # vae: level in this span; None: the stage's

    def __post_init__(self) -> None:
        require(self.steps >= 0 and self.batch >= 1, f"a span has steps and a batch of at least 1: not {self}")


@dataclass(frozen=True)
class Optimisation:
    """Options of AdamW and its learning-rate schedule."""

    rate: float = 1e-4
    schedule: str = "constant"
    warmup: int = 0  # steps of linear warm-up
    final: float = 0.01  # factor of the rate at the end of "cosine", or after the last drop of "steps"
    drops: tuple[float, ...] = ()  # shares of the training after which "steps" drops, by equal factors
    weight_decay: float = 0.01
    beta_1: float = 0.9
    beta_2: float = 0.999
    clip: float = 1.0  # gradients are clipped to this norm
    ema: float = 0.999

    def __post_init__(self) -> None:
        require(self.schedule in SCHEDULES, f"there is no schedule {self.schedule!r}; there are {', '.join(SCHEDULES)}")

    def learning_rate_at(self, step: float, steps: int) -> float:
        """The learning rate at a step, or at the planned step that stands for the time spent."""
        part = min(1.0, (step - self.warmup) / max(1, steps - self.warmup))
        if step < self.warmup:
            return self.rate * min(1.0, (step + 1) / self.warmup)
        if self.schedule == "cosine":
            return self.rate * (self.final + (1 - self.final) * (1 + math.cos(math.pi * part)) / 2)
        if self.schedule == "steps":
            fallen = sum(part >= drop for drop in self.drops)
            return float(self.rate * self.final ** (fallen / max(1, len(self.drops))))
        return self.rate


@dataclass(frozen=True)
class Rate:
    """The trained qualities and their λ_r, log-spaced from `smallest` to `largest` over the 64; equal for one λ."""

    smallest: float = 0.02
    largest: float = 2.0
    quality: int | None = None  # train this quality alone; None: sample all
    widening: bool = False  # begin with the middle quality and widen to all
    thrift: float = 0.0  # of rounding, in training and in the exported model (likelihoods.round_symbols)

    def __post_init__(self) -> None:
        if not 0 < self.smallest <= self.largest or not (self.quality is None or 0 <= self.quality < QUALITIES):
            raise UsageError(f"λs are above 0 and do not fall, a quality is 0 to {QUALITIES - 1}: not {self}")
        require(0 <= self.thrift <= 1, f"thrift is 0 to 1: not {self.thrift}")


@dataclass(frozen=True)
class Stage:
    """A training stage: its phase, trained parts, spans, losses and optimisation."""

    phase: str
    trains: tuple[str, ...]
    spans: tuple[Span, ...]
    weights: Weights
    optimisation: Optimisation = Optimisation()
    perceptual: str = "lpips_vgg"
    perceptual_frames: int | None = (
        None  # number of frames of a clip, drawn in every step, for the perceptual loss; None: all
    )
    perceptual_views: bool = False  # crop, mirror and transpose clips for it at random
    coarsest: float = 0.0  # vae: largest level of a transform code for its latents; 0: no code
    sigma_0: float = 0.3
    sigma_ratio: float | None = None  # set σ_0 from each clip's error in decoded latents (flow.sigma_0_for)
    noise_scale: float = 1.0  # scale of the noise at the start of refinement
    unrolled: int = 5  # refinement steps with gradient; 0: no refinement
    cfm_detached: bool = True  # L_CFM trains the adaptor only; False: the codec too, through x_c, l̂ and f
    continuation: float = 0.0  # share of steps whose window continues a GOP
    conditions: tuple[float, ...] = (1.0, 0.0, 0.0)  # prior: shares of steps given no frame, the first, first and last
    samples: int | None = None  # number of samples, used again and again; None: no limit
    shift: float = 1.0  # prior: shift of σ towards noise
    repeats: int = 1  # prior: draws of σ and noise per clip and step, since encoding clips costs the most

    def __post_init__(self) -> None:
        require(self.phase in PHASES, f"there is no phase {self.phase!r}; there are {', '.join(PHASES)}")
        if not self.trains or not set(self.trains) <= set(GROUPS):
            raise UsageError(f"trains takes some of {', '.join(GROUPS)}: not {self.trains}")
        if self.perceptual not in PERCEPTUAL:
            raise UsageError(f"there is no perceptual loss {self.perceptual!r}; there are {', '.join(PERCEPTUAL)}")
        if self.phase != "vae" and any(span.weights or span.coarsest is not None for span in self.spans):
            raise UsageError("a span has weights and a coarsest level of its own in the phase vae only")
        for span in self.spans:
            rated = (span.weights or self.weights).rate > 0
            if rated and not (self.coarsest if span.coarsest is None else span.coarsest):
                raise UsageError("weights.rate needs a transform code: set coarsest too")
        if not (0 < self.sigma_0 <= 1 and 0 <= self.noise_scale <= 1):
            raise UsageError(f"σ_0 is above 0 up to 1, the noise scale 0 to 1: {self.sigma_0}, {self.noise_scale}")
        ratio_fits = self.sigma_ratio is None or 0 < self.sigma_ratio <= MAX_RATIO
        require(ratio_fits, f"sigma_ratio is above 0, up to {MAX_RATIO}, or null: not {self.sigma_ratio}")
        if len(self.conditions) != 3 or abs(sum(self.conditions) - 1) > 1e-6:
            raise UsageError(f"conditions are three shares that sum to 1: not {self.conditions}")
        for weights in self.all_weights:
            self._check_adversary(weights)

    def _check_adversary(self, weights: Weights) -> None:
        if not weights.adversarial:
            return
        behind = set(self.trains) <= set(BEHIND_SYMBOLS)
        require(behind, f"adversarial is for parts behind the symbols, {', '.join(BEHIND_SYMBOLS)}: not {self.trains}")
        plain = weights.absolute + weights.squared if self.phase == "vae" else weights.pixel
        require(plain, "weights.adversarial is relative to weights.pixel (vae: absolute, squared): set that too")
        require(all(span.frames >= 5 for span in self.spans), "weights.adversarial needs clips of at least 5 frames")

    @property
    def steps(self) -> int:
        return sum(span.steps for span in self.spans)

    @property
    def all_weights(self) -> tuple[Weights, ...]:
        """The stage's weights, and those of spans that have their own."""
        return (self.weights, *(span.weights for span in self.spans if span.weights is not None))

    @property
    def groups(self) -> frozenset[str]:
        """All groups of parameters that train."""
        parts = {CORRECTION} if "codec" in self.trains else set()
        return frozenset({*self.trains, *parts, DISCRIMINATOR})

    def without_perceptual(self) -> "Stage":
        """A copy without perceptual losses, whose networks only training needs."""
        spans = (replace(span, weights=span.weights and _without_perceptual(span.weights)) for span in self.spans)
        return replace(self, weights=_without_perceptual(self.weights), spans=tuple(spans))

    @property
    def refines(self) -> bool:
        """Whether the loss depends on refined latents."""
        return self.unrolled > 0 and bool(self.weights.refined or self.weights.of_pictures)

    @property
    def refinement(self) -> Refinement:
        """The trained codec's default refinement: as training unrolls it, or none."""
        steps = self.unrolled if self.refines else 0
        return Refinement(steps, self.sigma_0, self.noise_scale, sigma_ratio=self.sigma_ratio)

    def spans_in_time(self) -> list[tuple[Span, int, int]]:
        """Each span with its first step and the first step after it."""
        ends = accumulate(span.steps for span in self.spans)
        return [(span, end - span.steps, end) for span, end in zip(self.spans, ends, strict=True)]

    def span_at(self, step: int) -> Span:
        return next(span for span, _, end in self.spans_in_time() if step < end)

    def first_sample(self, step: int) -> int:
        """Number of a step's first sample; samples are numbered through the whole training."""
        return sum(min(max(0, step - start), span.steps) * span.batch for span, start, _ in self.spans_in_time())


def _without_perceptual(weights: Weights) -> Weights:
    return replace(weights, perceptual=0.0, perceptual_half=0.0)


@dataclass(frozen=True)
class Model:
    """The model to train: a preset's sizes, and initial weights from its source, a model folder, or at random."""

    name: str
    start: str | None = None  # model folder or preset of the initial backbone, and codec if it has one
    bottleneck: BottleneckKind | None = None  # latent codec; None: the preset's
    begin: str | None = None  # latent codec's start: measured, random, or a file of statistics; None: from `start`
    bfloat16: bool = False  # keep the frozen backbone in bfloat16
    vace: str | None = None  # folder or hub id of VACE weights that initialise the adaptor
    checkpointing: bool = False  # gradient checkpointing of the transformer's blocks
    teacher: str | None = None  # vae: backbone whose decoding of the latents the decoder learns
    light_decoder: int | None = None  # width of a new light decoder in place of the one of `start`


@dataclass(frozen=True)
class RunSettings:
    """Options of the execution; of these, only budget and precision change the trained model by more than rounding."""

    accumulate: int = 1  # number of passes into which a step's batch is divided
    precision: str = "no"  # no, bf16, or auto: bf16 if the device is faster with it (precision.py)
    budget: str | None = None  # time such as 8min; learning rates and spans then follow the clock (clock.py)
    capture: bool = False  # capture steps as CUDA graphs (capture.py)
    shard: bool = False  # divide the transformer over the processes (sharding.py)
    replicas: int = 1  # with shard: number of whole transformers, one per machine
    deterministic: bool = False  # reproducible bit for bit on a GPU too, but slower (precision.py)
    compile: bool = False  # torch.compile on blocks: takes a minute, saves a quarter of each step
    workers: int = 0
    memory: float = 16.0  # limit in gigabytes for files and clips on the device (data/device.py)
    log_every: int = 10
    validate_every: int = 0  # steps; 0: only at the end. A measured start is validated first, too
    save_every: int = 1000
    keep: int = 3
    trackers: tuple[str, ...] = ()  # wandb, tensorboard
    cpu: bool = False
    qualities: tuple[int, ...] = (0, 21, 42, 63)  # qualities of a validation
    clips: int = 4  # clips of a validation

    def __post_init__(self) -> None:
        require(self.replicas >= 1, f"run.replicas is a number of machines, at least 1: not {self.replicas}")
        require(self.precision in PRECISIONS, f"there is no precision {self.precision!r}; there are no, bf16, auto")
        _ = self.seconds  # raises on a malformed budget

    @property
    def seconds(self) -> float | None:
        """The budget in seconds."""
        return None if self.budget is None else seconds_of(self.budget)


@dataclass(frozen=True)
class Training:
    """All settings of a training."""

    name: str
    model: Model
    stage: Stage
    rate: Rate = Rate()
    adaptor: AdaptorPreset | None = None  # None: the preset's
    seed: int = 0
    data: str = ""  # description of the data; must change whenever the data does
    run: RunSettings = RunSettings()

    def __post_init__(self) -> None:
        alone = self.stage.phase == "vae" and self.stage.trains == ("decoder",)
        require(alone or not self.model.teacher, "model.teacher is for the phase vae where the decoder alone trains")
        needs = self.model.light_decoder or any(weights.features for weights in self.stage.all_weights)
        require(self.model.teacher or not needs, "model.light_decoder and weights.features need model.teacher")
