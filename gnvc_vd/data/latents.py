"""Precomputed latents: the VAE's latents of samples 0 … count − 1, in shards of safetensors.

    folder/
      index.json                   which VAE, which clips, how many: written first, so that interrupted work can resume
      latents-00000.safetensors    "latents", N 16 t h w; an existing shard is complete
      …

The VAE is identified by a hash of its encoder in bfloat16, which is the same in whatever precision it is loaded.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gnvc_vd.backbone.streaming import VideoVae
from gnvc_vd.bitstream.gop import latents_of
from gnvc_vd.common import strict
from gnvc_vd.common.files import replacing
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import LATENT_CHANNELS, SPATIAL_STRIDE, GnvcError, UsageError
from gnvc_vd.data.clips import ClipSpec
from gnvc_vd.data.samples import Clips, Draws, LoaderOptions, item_of
from gnvc_vd.video.pixels import to_model

INDEX = "index.json"
FORMAT = 1
SHARD = 256  # clips
DECODER = ("decoder.", "post_quant_conv.")  # prefixes of the names of tensors that only decode


@dataclass(frozen=True)
class LatentIndex:
    """The content of `index.json`."""

    vae: str  # hash of its encoder
    clip: ClipSpec
    source: str  # free text on where the clips come from
    count: int
    half: bool
    shard: int = SHARD
    format: int = FORMAT

    def __post_init__(self) -> None:
        if not (1 <= self.count <= strict.MAX_NUMBER and 1 <= self.shard <= strict.MAX_NUMBER):
            raise ValueError(f"{self.count} clips in shards of {self.shard}: counts are 1 to {strict.MAX_NUMBER}")

    @property
    def shards(self) -> int:
        return -(-self.count // self.shard)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of one clip's latents."""
        return shape_of(self.clip)

    def numbers(self, shard: int) -> range:
        """Sample numbers in a shard."""
        return range(self.count)[shard * self.shard :][: self.shard]


def shape_of(clip: ClipSpec) -> tuple[int, int, int, int]:
    """Shape of a clip's latents."""
    return LATENT_CHANNELS, latents_of(clip.frames), clip.height // SPATIAL_STRIDE, clip.width // SPATIAL_STRIDE


def encoder_identity(vae: VideoVae) -> str:
    """SHA-256, in hexadecimal, of what determines latents: the encoder, and their mean and deviation.

    The decoder may be trained further: latents do not depend on it.
    """
    digest = hashlib.sha256()
    weights = {name: one for name, one in vae.model.state_dict().items() if not name.startswith(DECODER)}
    for name, tensor in sorted({**weights, "mean": vae.mean, "std": vae.std}.items()):
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().bfloat16().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def precompute(
    clips: Clips,
    vae: VideoVae,
    folder: Path,
    index: LatentIndex,
    batch: int = 1,
    loading: LoaderOptions = LoaderOptions(),  # noqa: B008 - frozen
    on_done: Callable[[int], None] = lambda clips: None,
) -> None:
    """Encode the index's clips, except those in shards that already exist.

    Args:
        on_done: called with the number of clips of each finished batch or shard.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _begin(folder, index)
    device = vae.mean.device
    for shard in range(index.shards):
        target, numbers = folder / _name(shard), index.numbers(shard)
        if target.is_file():
            on_done(len(numbers))
            continue
        encoded = []
        for taken in clips.batches([list(numbers[at : at + batch]) for at in range(0, len(numbers), batch)], loading):
            with torch.inference_mode():
                encoded.append(vae.encode(to_model(taken.to(device))).cpu())
            on_done(len(taken))
        latents = torch.cat(encoded).to(torch.float16 if index.half else torch.float32).contiguous()
        if not latents.isfinite().all():
            raise GnvcError(f"the VAE gives numbers that are not finite for samples {numbers[0]} to {numbers[-1]}")
        with replacing(target) as part:
            save_file({"latents": latents}, part)


class LatentClips(Clips):
    """Precomputed latents by sample number, 16 t h w float32; a pass over the data takes each once.

    A `clip` smaller than the stored ones is cut out of them: in time, the first frames, whose latents do not depend on
    later ones; in the picture, at a position drawn anew in every pass. Near its border, a latent cut out in this way
    also depends on pixels outside the smaller clip.

    Args:
        identity: `encoder_identity` of the VAE that will be used with them; latents of another are refused.
        seed: for the order of each pass and the positions.
        clip: frames and size to return; by default as computed.
    """

    def __init__(self, folder: str | Path, identity: str, seed: int = 0, clip: ClipSpec | None = None) -> None:
        self.folder, self.seed = Path(folder), seed
        self.index = read_index(self.folder)
        if identity != self.index.vae:
            raise GnvcError(
                f"{folder} holds latents of VAE {self.index.vae[:12]}…, not of {identity[:12]}…; compute them again"
            )
        missing = [shard for shard in range(self.index.shards) if not (self.folder / _name(shard)).is_file()]
        require(not missing, f"{folder}: {len(missing)} of {self.index.shards} shards are not computed yet", GnvcError)
        for shard in range(self.index.shards):
            path, wanted = self.folder / _name(shard), [len(self.index.numbers(shard)), *self.index.shape]
            try:
                with safe_open(path, "pt") as file:
                    shape = list(file.get_slice("latents").get_shape())
            except SafetensorError as error:
                raise GnvcError(f"{path}: not a shard of latents ({error})") from error
            require(shape == wanted, f"{path}: holds latents {shape}, the index says {wanted}", GnvcError)
        there, clip = self.index.clip, clip or self.index.clip
        self._shape = shape_of(clip)
        if any(large < small for large, small in zip(self.index.shape, self._shape, strict=True)):
            raise GnvcError(
                f"{folder}: latents of {there.frames} frames {there.width}×{there.height}, "
                f"too small for {clip.frames} frames {clip.width}×{clip.height}"
            )

    def __len__(self) -> int:
        return self.index.count

    def __getitem__(self, number: int) -> Tensor:
        shard, row = divmod(item_of(number, len(self), self.seed), self.index.shard)
        (_, _, rows, columns), (_, frames, height, width) = self.index.shape, self._shape
        draws = Draws(self.seed, number)
        top, left = draws.below(1 + rows - height), draws.below(1 + columns - width)
        with safe_open(self.folder / _name(shard), "pt") as file:
            latent: Tensor = file.get_slice("latents")[row]
        return latent[:, :frames, top : top + height, left : left + width].float()


def read_index(folder: Path) -> LatentIndex:
    index = strict.parse(LatentIndex, strict.read_object(folder / INDEX), INDEX)
    if index.format != FORMAT:
        raise GnvcError(f"{folder / INDEX}: format {index.format}; this program reads format {FORMAT}")
    return index


def _begin(folder: Path, index: LatentIndex) -> None:
    """Write the index, or check that the existing one is the same."""
    if not (folder / INDEX).is_file():
        if any(not path.name.startswith(".") for path in folder.iterdir()):
            raise UsageError(f"{folder} holds other things than latents; give another folder")
        with replacing(folder / INDEX) as part:
            part.write_text(json.dumps(dataclasses.asdict(index), indent=2) + "\n", encoding="utf-8")
        return
    existing = read_index(folder)
    different = [name for name, value in vars(index).items() if getattr(existing, name) != value]
    if different:
        raise UsageError(f"{folder} has latents with another {', '.join(different)}; give another folder, or empty it")


def _name(shard: int) -> str:
    return f"latents-{shard:05d}.safetensors"
