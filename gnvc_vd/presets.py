"""Presets: the sizes of every model. Weights come from the package, a folder or the hub."""

from dataclasses import dataclass, replace
from typing import Literal

from gnvc_vd.conventions import LATENT_CHANNELS, UsageError

RANDOM_SEED = 20260326  # seed of the untrained weights of VAEs and codecs
RANDOM_DIT_SEED = 20260327  # likewise of transformers
CONDITION_CHANNELS = 20  # Wan's image-conditioned layout: a mask (4) and a latent (16) beside the noisy latent


@dataclass(frozen=True)
class VaePreset:
    """A video VAE: its width, and the mean and standard deviation that normalise its latents."""

    base_dim: int
    latents_mean: tuple[float, ...]
    latents_std: tuple[float, ...]
    architecture: str = "wan"  # Wan's 3-D convolutions, or "light": 2-D ones (backbone/light_vae.py)
    light_decoder: int | None = None  # width of a light decoder behind Wan's encoder, in place of Wan's own


@dataclass(frozen=True)
class DitPreset:
    """The size of a Wan video transformer."""

    layers: int
    heads: int
    head_dim: int
    ffn_dim: int
    text_dim: int
    text_tokens: int  # text embeddings are padded with zeros to this length
    freq_dim: int = 256
    condition_channels: int = 0  # 0, or 20 for image conditioning
    image_dim: int | None = None  # width of CLIP's image embedding; None: the model takes none
    image_tokens: int | None = None  # learned positions of image tokens, for models that take two images

    @property
    def dim(self) -> int:
        return self.heads * self.head_dim


@dataclass(frozen=True)
class ContextualPreset:
    """The size of the contextual latent codec, the paper's: numbers of channels, and of blocks."""

    features: int  # the temporal feature f
    width: int  # of the transforms' hidden layers
    symbols: int  # y
    hyper: int  # z
    prior: int  # of the entropy model's hidden layers
    state: int  # the integer memory of earlier symbols
    blocks: int  # for each resolution of each transform
    kind: Literal["contextual"] = "contextual"


@dataclass(frozen=True)
class TransformPreset:
    """The size of the transform latent codec: numbers of channels, and of blocks."""

    prior: int  # of the entropy models' hidden layers
    state: int  # the context that a slice gets from earlier slices
    width: int  # of the correction network
    blocks: int  # of the correction network
    kind: Literal["transform"] = "transform"

    def __post_init__(self) -> None:
        if self.width % 4:
            raise ValueError(f"a correction's width is a multiple of 4, not {self.width}")

    @property
    def features(self) -> int:
        """Channels of f: the correction's features, the expected error of each latent, and the quantisation step."""
        return self.width // 4 + LATENT_CHANNELS + 1


BottleneckPreset = ContextualPreset | TransformPreset
BottleneckKind = Literal["contextual", "transform"]


@dataclass(frozen=True)
class AdaptorPreset:
    """The refiner's conditioning adaptor: which layers have one, and its inputs."""

    layers: tuple[int, ...]  # transformer layers that get a hint; empty: no adaptor
    sees_latents: bool = True  # whether decoded latents l̂ are an input beside f
    sees_start: bool = False  # whether σ_0 is an input, which says how far l̂ may be off
    lora_rank: int | None = None  # rank of LoRA corrections to the frozen attention; None: no LoRA


REAL_CONTEXTUAL = ContextualPreset(features=192, width=272, symbols=128, hyper=64, prior=256, state=128, blocks=3)
REAL_TRANSFORM = TransformPreset(prior=256, state=128, width=384, blocks=4)


@dataclass(frozen=True)
class Source:
    """A hub repository with public weights in diffusers' layout."""

    repository: str
    revision: str = "main"


@dataclass(frozen=True)
class Preset:
    """The sizes of all parts of a model, and the source of its backbone's weights (None: not on the hub)."""

    name: str
    vae: VaePreset
    dit: DitPreset
    contextual: ContextualPreset = REAL_CONTEXTUAL
    transform: TransformPreset = REAL_TRANSFORM
    kind: BottleneckKind = "contextual"  # the default latent codec
    adaptor: AdaptorPreset = AdaptorPreset(tuple(range(0, 30, 2)))
    source: Source | None = None
    shipped: bool = False  # whether the package contains its weights
    note: str = ""
    codebook: int = 16384  # number of atoms in GVC's codebooks

    def bottleneck(self, kind: BottleneckKind | None = None) -> BottleneckPreset:
        kinds: dict[BottleneckKind, BottleneckPreset] = {"contextual": self.contextual, "transform": self.transform}
        return kinds[kind or self.kind]


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


SHIPPED_BEFORE = {  # earlier models of the package, by the shown identity in their streams
    **dict.fromkeys(("eeae77e0", "b8b34dd9"), "tiny's first edition, gnvc_vd/assets/tiny of commit e57d395"),
    **dict.fromkeys(("9079463f", "78113e87"), "tiny as it was, gnvc_vd/assets/tiny of commit ddcd7a8"),
    "833955f9": "tiny as it was, gnvc_vd/assets/tiny of commit 213be7a",
}


def preset(name: str) -> Preset:
    if name not in PRESETS:
        raise UsageError(f"there is no preset {name!r}; the presets are {', '.join(PRESETS)}")
    return PRESETS[name]


def codebook_of(dit: DitPreset) -> int:
    """Codebook size of the preset with this transformer; GVC's published size if no preset has it."""
    return next((one.codebook for one in PRESETS.values() if one.dit == dit), Preset.codebook)
