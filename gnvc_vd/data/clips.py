"""Training clips by sample number, 3 T H W uint8: from videos, Vimeo-90K's septuplets, or a mixture of sources.

    number ──samples.py──▶ item, draws ──▶ start, crop, flip ──▶ 3 T H W uint8 ──to_model──▶ [−1, 1] on the device

A dataset takes any number from 0 on: `len` is one pass over its items, and further numbers are further passes in other
orders. No clip depends on other clips.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gnvc_vd.common.strict import MAX_NUMBER, require
from gnvc_vd.conventions import MAX_SIDE, PIXEL_MULTIPLE, TEMPORAL_STRIDE, GnvcError, UsageError
from gnvc_vd.data.manifests import entries_of, inside
from gnvc_vd.data.material import Film, Material
from gnvc_vd.data.samples import MIXING, Clips, Draws, ItemClips, UnsuitableError, order
from gnvc_vd.video.pictures import read_picture
from gnvc_vd.video.seeking import Area, Backend

SEPTUPLET = 7
BLOCK = 1024  # samples; a mixture's shares are exact in each block


@dataclass(frozen=True)
class ClipSpec:
    """Length, size and augmentation of clips."""

    frames: int  # 1 + 4k
    height: int  # multiples of 16
    width: int
    stride: int = 1  # use every stride-th frame of a video
    short_side: int | None = None  # larger videos are downscaled to this before they are cropped
    flip: bool = True  # mirror half of the clips
    seed: int = 0

    def __post_init__(self) -> None:
        if self.frames < 1 or (self.frames - 1) % TEMPORAL_STRIDE:
            raise UsageError(f"a clip of {self.frames} frames is not 1 + 4k")
        for side in (self.height, self.width):
            if not 0 < side <= MAX_SIDE or side % PIXEL_MULTIPLE:
                raise UsageError(f"a clip's side of {side} pixels is no multiple of {PIXEL_MULTIPLE}")
        if self.stride < 1 or (self.short_side is not None and self.short_side < min(self.height, self.width)):
            raise UsageError("a clip's stride is at least 1, and short_side at least its own short side")
        require(0 <= self.seed <= MAX_NUMBER, f"a seed is 0 to {MAX_NUMBER}")

    @property
    def span(self) -> int:
        """Number of source frames from the clip's first to its last."""
        return 1 + (self.frames - 1) * self.stride


class VideoClips(ItemClips):
    """Clips of the videos in a folder, or of the entries of a manifest; a pass takes one clip of each.

    Args:
        source: a folder, which is searched recursively, or a manifest.
        split: split of a manifest; None: all entries.
        backend: "exact" gives the same frames as `open_video`; the colours of "decord" differ (video/seeking.py).
    """

    def __init__(
        self, source: str | Path, spec: ClipSpec, split: str | None = "train", backend: Backend = "exact"
    ) -> None:
        self.root, self._entries = entries_of(Path(source), "videos", split)
        super().__init__([entry.name for entry in self._entries], spec.seed)
        self.spec, self._backend = spec, backend
        self._material: Material | None = None

    def register_files(self, material: Material) -> None:
        self._material = material
        material.request(self._all(self._film))

    def _clip(self, item: int, draws: Draws) -> Tensor:
        film, spec = self._film(item), self.spec
        frames, height, width = film.shape
        require(frames >= spec.span, f"{frames} frames, but a clip needs {spec.span}", UnsuitableError)
        start = draws.below(frames - spec.span + 1)
        area = draw_area(draws, height, width, spec)
        if self._material is None:
            return shrink_and_mirror(film.read(start, spec.frames, spec.stride, area), draws, spec)
        taken = self._material[film][start : start + spec.span : spec.stride]
        part = taken[:, :, area.top : area.top + area.height, area.left : area.left + area.width]
        return shrink_and_mirror(part.float(), draws, spec)  # not all devices can filter uint8

    def _film(self, item: int) -> Film:
        entry = self._entries[item]
        return Film(inside(self.root, entry.path), entry.start, entry.frames, self._backend)


class SeptupletClips(ItemClips):
    """Clips of Vimeo-90K: sequences/00001/0001/im1.png … im7.png, and a list with one `00001/0001` per line."""

    def __init__(self, root: str | Path, spec: ClipSpec, listed: str = "sep_trainlist.txt") -> None:
        self.root, self.spec = Path(root), spec
        require(spec.span <= SEPTUPLET, f"a septuplet has {SEPTUPLET} frames; a clip of {spec.span} does not fit")
        path = self.root / listed
        require(path.is_file(), f"{path}: missing; it is part of Vimeo-90K's septuplets", GnvcError)
        names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        super().__init__(names, spec.seed)

    def _clip(self, item: int, draws: Draws) -> Tensor:
        folder = inside(self.root, f"sequences/{self.names[item]}")
        first, spec = 1 + draws.below(SEPTUPLET - self.spec.span + 1), self.spec
        frames = [read_picture(folder / f"im{number}.png") for number in range(first, first + spec.span, spec.stride)]
        height, width = frames[0].shape[:2]
        area = draw_area(draws, height, width, spec)
        cut = np.stack([area.cut(frame) for frame in frames])
        return shrink_and_mirror(torch.from_numpy(cut).permute(0, 3, 1, 2), draws, spec)


class Mixture(Clips):
    """A mixture of sources, each with a share of the samples.

    Each block of 1024 samples has a fixed number of samples of each source, in random order. A source's samples are
    numbered through, so that a pass over the source takes each of its items once.
    """

    def __init__(self, parts: Sequence[tuple[Clips, float]], seed: int = 0) -> None:
        require(parts and min(weight for _, weight in parts) > 0, "a mixture has parts, and each a weight above 0")
        self.parts, self.seed = [part for part, _ in parts], seed
        self._owner = _dealt([weight for _, weight in parts])
        self._counts = torch.bincount(self._owner, minlength=len(parts)).tolist()

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def register_files(self, material: Material) -> None:
        for part in self.parts:
            part.register_files(material)

    @property
    def skipped(self) -> dict[str, str]:
        return {f"part {i}: {name}": why for i, part in enumerate(self.parts) for name, why in part.skipped.items()}

    def __getitem__(self, number: int) -> Tensor:
        part, own = self.source_of(number)
        return self.parts[part][own]

    def source_of(self, number: int) -> tuple[int, int]:
        """The index of a sample's source, and the sample's number in that source."""
        require(0 <= number < 1 << 63, f"there is no sample {number}", IndexError)
        block, place = divmod(number, BLOCK)
        owners = self._owner[order(BLOCK, self.seed, block, MIXING)]
        part = int(owners[place])
        return part, block * self._counts[part] + int((owners[:place] == part).sum())


def draw_area(draws: Draws, height: int, width: int, spec: ClipSpec) -> Area:
    """Draw a clip's crop in a picture; it is larger than the clip if the picture is to be downscaled."""
    shrink = max(1.0, min(height, width) / spec.short_side) if spec.short_side else 1.0
    tall, wide = int(spec.height * shrink), int(spec.width * shrink)
    fits = tall <= height and wide <= width
    require(fits, f"{width}×{height} pixels, but a clip needs {wide}×{tall}", UnsuitableError)
    return Area(draws.below(height - tall + 1), draws.below(width - wide + 1), tall, wide)


def shrink_and_mirror(clip: Tensor, draws: Draws, spec: ClipSpec) -> Tensor:
    """Downscale cropped frames T 3 h w to the clip's size and mirror half of the clips: 3 T H W uint8."""
    size = (spec.height, spec.width)
    if clip.shape[2:] != size:
        clip = interpolate(clip.contiguous(), size, mode="bilinear", antialias=True)
    if clip.is_floating_point():
        clip = clip.round().to(torch.uint8)
    if spec.flip and draws.chance(0.5):
        clip = clip.flip(3)
    return clip.transpose(0, 1).contiguous()


def _dealt(weights: Sequence[float]) -> Tensor:
    """The sources of a block's samples, in proportion to the weights (largest remainders), at least one each."""
    exact = [BLOCK * weight / sum(weights) for weight in weights]
    counts = [max(1, int(share)) for share in exact]
    while sum(counts) != BLOCK:
        step = 1 if sum(counts) < BLOCK else -1
        allowed = [i for i in range(len(counts)) if counts[i] + step >= 1]
        counts[max(allowed, key=lambda i: step * (exact[i] - counts[i]))] += step
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
