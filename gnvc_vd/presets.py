"""Every model size, once. A preset says what to build; weights come from a folder or the hub."""

from dataclasses import dataclass, replace
from typing import Literal

from gnvc_vd.conventions import LATENT_CHANNELS, UsageError

RANDOM_SEED = 20260326  # of weights that nobody trained
RANDOM_DIT_SEED = 20260327  # of such a transformer's, which is built whether or not its VAE was
CONDITION_CHANNELS = 20  # Wan's image-conditioned layout: a mask of 4 and a latent of 16 beside the noisy latent


@dataclass(frozen=True)
class VaePreset:
    """A video VAE at a width. Mean and deviation of its latents are what normalises them."""

    base_dim: int
    latents_mean: tuple[float, ...]
    latents_std: tuple[float, ...]
    architecture: str = "wan"  # Wan's 3-D convolutions, or "light": 2-D ones (backbone/light_vae.py)


@dataclass(frozen=True)
class DitPreset:
    """Wan's video transformer at a size."""

    layers: int
    heads: int
    head_dim: int
    ffn_dim: int
    text_dim: int
    text_tokens: int  # the length the text embedding is padded to with zeros
    freq_dim: int = 256
    condition_channels: int = 0  # 0, or 20 for image conditioning
    image_dim: int | None = None  # width of the CLIP image embedding, where the model has one
    image_tokens: int | None = None  # learned positions for it, where it has two images

    @property
    def dim(self) -> int:
        return self.heads * self.head_dim


@dataclass(frozen=True)
class ContextualPreset:
    """The latent codec of the paper at a size, latent after latent: channels of each of its parts."""

    features: int  # the temporal feature f
    width: int  # inside the transforms
    symbols: int  # y
    hyper: int  # z
    prior: int  # inside the entropy model
    state: int  # the integer memory of earlier symbols
    blocks: int  # at each resolution of each transform
    kind: Literal["contextual"] = "contextual"


@dataclass(frozen=True)
class TransformPreset:
    """The latent codec that starts as a transform code, a rotation of latents at a time, likewise."""

    prior: int  # inside the entropy models
    state: int  # what a slice is told of those before it
    width: int  # inside the correction
    blocks: int  # of the correction
    kind: Literal["transform"] = "transform"

    def __post_init__(self) -> None:
        if self.width % 4:
            raise ValueError(f"a correction's width is a multiple of 4, not {self.width}")

    @property
    def features(self) -> int:
        """Channels of f: the correction's, at latents' own places, how sure each latent is, and the step."""
        return self.width // 4 + LATENT_CHANNELS + 1


BottleneckPreset = ContextualPreset | TransformPreset
BottleneckKind = Literal["contextual", "transform"]


@dataclass(frozen=True)
class AdaptorPreset:
    """The refiner's conditioning adaptor."""

    layers: tuple[int, ...]  # of the transformer, that take a hint; none is no adaptor
    sees_latents: bool = True  # l̂ beside f
    sees_start: bool = False  # σ_0, which says how far l̂ may be off
    lora_rank: int | None = None  # of low-rank corrections to the frozen transformer's attention; None is none


REAL_CONTEXTUAL = ContextualPreset(features=192, width=272, symbols=128, hyper=64, prior=256, state=128, blocks=3)
REAL_TRANSFORM = TransformPreset(prior=256, state=128, width=384, blocks=4)


@dataclass(frozen=True)
class Source:
    """Where public weights live, in diffusers' layout."""

    repository: str
    revision: str = "main"


@dataclass(frozen=True)
class Preset:
    """Every part's size, and where the backbone's weights come from (None: made here)."""

    name: str
    vae: VaePreset
    dit: DitPreset
    contextual: ContextualPreset = REAL_CONTEXTUAL
    transform: TransformPreset = REAL_TRANSFORM
    kind: BottleneckKind = "contextual"  # the latent codec that it has unless told otherwise
    adaptor: AdaptorPreset = AdaptorPreset(tuple(range(0, 30, 2)))
    source: Source | None = None
    shipped: bool = False  # weights of our own come with the package
    note: str = ""
    codebook: int = 16384  # atoms that GVC chooses from

    def bottleneck(self, kind: BottleneckKind | None = None) -> BottleneckPreset:
        return self.transform if (kind or self.kind) == "transform" else self.contextual


UNIT_MEAN, UNIT_STD = (0.0,) * LATENT_CHANNELS, (1.0,) * LATENT_CHANNELS

WAN_VAE = VaePreset(
    base_dim=96,
    latents_mean=(
        *(-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508),
        *(0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
    ),
    latents_std=(
        *(2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743),
        *(3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160),
    ),
)
WAN_TEXT = {"text_dim": 4096, "text_tokens": 512}
WAN_1_3B = DitPreset(layers=30, heads=12, head_dim=128, ffn_dim=8960, **WAN_TEXT)
WAN_14B = DitPreset(layers=40, heads=40, head_dim=128, ffn_dim=13824, **WAN_TEXT)
WAN_14B_I2V = replace(WAN_14B, condition_channels=CONDITION_CHANNELS, image_dim=1280)  # CLIP ViT-H
WAN_14B_FLF2V = replace(WAN_14B_I2V, image_tokens=2 * 257)
OWN_CONDITION = {"text_dim": 8, "text_tokens": 1, "condition_channels": CONDITION_CHANNELS}

TINY = Preset(
    name="tiny",
    vae=VaePreset(base_dim=64, latents_mean=UNIT_MEAN, latents_std=UNIT_STD, architecture="light"),
    dit=DitPreset(layers=6, heads=4, head_dim=64, ffn_dim=1024, **OWN_CONDITION),
    contextual=ContextualPreset(features=32, width=72, symbols=32, hyper=16, prior=64, state=32, blocks=2),
    transform=TransformPreset(prior=128, state=64, width=96, blocks=2),
    kind="transform",
    adaptor=AdaptorPreset((0, 2, 4), sees_start=True),
    codebook=1024,
    shipped=True,
)

PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            name="nano",
            vae=VaePreset(base_dim=8, latents_mean=UNIT_MEAN, latents_std=UNIT_STD),
            dit=DitPreset(layers=2, heads=2, head_dim=16, ffn_dim=64, freq_dim=32, **OWN_CONDITION),
            contextual=ContextualPreset(features=16, width=16, symbols=16, hyper=4, prior=16, state=16, blocks=1),
            transform=TransformPreset(prior=16, state=16, width=16, blocks=1),
            adaptor=AdaptorPreset((0,)),
            codebook=1024,
            note="random weights from a seed, for tests: its pictures mean nothing",
        ),
        TINY,
        replace(TINY, name="tiny-contextual", kind="contextual"),
        Preset("wan2.1-1.3b", WAN_VAE, WAN_1_3B, source=Source("Wan-AI/Wan2.1-T2V-1.3B-Diffusers")),
        Preset("wan2.1-14b-t2v", WAN_VAE, WAN_14B, source=Source("Wan-AI/Wan2.1-T2V-14B-Diffusers")),
        Preset("wan2.1-14b-i2v", WAN_VAE, WAN_14B_I2V, source=Source("Wan-AI/Wan2.1-I2V-14B-720P-Diffusers")),
        Preset("wan2.1-14b-flf2v", WAN_VAE, WAN_14B_FLF2V, source=Source("Wan-AI/Wan2.1-FLF2V-14B-720P-diffusers")),
    )
}  # fmt: skip


SHIPPED_BEFORE = {  # models that came with the package once, by what their streams say of the weights that show them
    **dict.fromkeys(("eeae77e0", "b8b34dd9"), "tiny's first edition, gnvc_vd/assets/tiny of commit e57d395"),
    **dict.fromkeys(("9079463f", "78113e87"), "tiny as it was, gnvc_vd/assets/tiny of commit ddcd7a8"),
}


def preset(name: str) -> Preset:
    if name not in PRESETS:
        raise UsageError(f"there is no preset {name!r}; the presets are {', '.join(PRESETS)}")
    return PRESETS[name]


def codebook_of(dit: DitPreset) -> int:
    """The codebook of the preset with this transformer; the published one for transformers of no preset."""
    return next((one.codebook for one in PRESETS.values() if one.dit == dit), Preset.codebook)
