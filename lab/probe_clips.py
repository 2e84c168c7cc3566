"""Clips that probes look at, and those that what they compare with is fitted on: 3 T H W uint8."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gnvc_vd.conventions import GnvcError
from gnvc_vd.data.clips import ClipSpec, VideoClips
from gnvc_vd.data.manifests import open_manifest
from gnvc_vd.data.photos import PhotoClips
from gnvc_vd.data.samples import Clips
from gnvc_vd.video import open_video

MANIFEST = ".jsonl"


def middle_clips(path: str | Path, frames: int, size: int) -> Iterator[Tensor]:
    """The middle of a video's pictures, clip after clip; one at least."""
    with open_video(path) as video:
        height, width = video.info.height, video.info.width
        if min(height, width) < size:
            raise GnvcError(f"{path}: {width}×{height} has no {size}×{size} crop")
        top, left = (height - size) // 2, (width - size) // 2
        cut = (frame[top : top + size, left : left + size] for frame in video)
        taken = list(islice(cut, frames))
        if len(taken) < frames:
            raise GnvcError(f"{path}: {len(taken)} frames, {frames} were asked for")
        while len(taken) == frames:
            yield torch.from_numpy(np.stack(taken)).permute(3, 0, 1, 2)
            taken = list(islice(cut, frames))


def training_clips(source: Path, spec: ClipSpec, count: int) -> Iterator[Tensor]:
    """Up to so many clips of a manifest's training split, as a training draws them, or of a video."""
    if source.suffix != MANIFEST:
        yield from islice(middle_clips(source, spec.frames, spec.width), count)
        return
    kind = VideoClips if open_manifest(source)[0].kind == "videos" else PhotoClips
    clips: Clips = kind(source, spec)
    for number in range(count):
        yield clips[number]
