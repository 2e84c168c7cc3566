"""Photographs and films, decoded once and kept as uint8 tensors on the device where clips are made.

sources ──request──▶ Material ──load: decode in threads──▶ one uint8 tensor for each Photo or Film
"""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gnvc_vd.common.strict import require
from gnvc_vd.video import VideoError
from gnvc_vd.video.pictures import picture_size, read_picture
from gnvc_vd.video.seeking import Area, Backend, FilmIndex, index_film, read_frames

KEPT_INDEXES = 4096
MOST_THREADS = 16
GIGABYTE = 1e9


@dataclass(frozen=True)
class Photo:
    """A photograph, downscaled if its longest side is larger than `longest_side`."""

    path: Path
    longest_side: int
    height: int = 0  # of the file's picture; 0: by its header
    width: int = 0

    @property
    def nbytes(self) -> int:
        """Size of the tensor that `read` returns."""
        height, width = self._shrink(*((self.height, self.width) if self.height else picture_size(self.path)))
        return 3 * height * width

    def read(self) -> Tensor:
        """Decode and downscale the picture: 3 H W uint8."""
        photo = torch.from_numpy(read_picture(self.path)).permute(2, 0, 1).contiguous()
        size = self._shrink(*photo.shape[1:])
        if size != photo.shape[1:]:
            photo = interpolate(photo[None], size, mode="bilinear", antialias=True)[0]
        return photo

    def _shrink(self, height: int, width: int) -> tuple[int, int]:
        shrink = max(1.0, max(height, width) / self.longest_side)
        return max(1, round(height / shrink)), max(1, round(width / shrink))


@dataclass(frozen=True)
class Film:
    """A film, or a run of its frames."""

    path: Path
    start: int = 0
    frames: int = 0  # maximum number of frames; 0: all frames from `start` on
    backend: Backend = "exact"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, height and width."""
        index = _index(self.path)
        left = max(0, index.frames - self.start)
        return min(self.frames or left, left), index.height, index.width

    @property
    def nbytes(self) -> int:
        """Size of the tensor that `read` returns for the whole run."""
        frames, height, width = self.shape
        return 3 * frames * height * width

    def read(self, first: int = 0, count: int | None = None, stride: int = 1, area: Area | None = None) -> Tensor:
        """Decode the frames first, first + stride, … of the run, cropped to `area` if it is given: T 3 H W uint8."""
        count = self.shape[0] if count is None else count
        require(count > 0, f"{self.path}: no frame from {self.start} on", VideoError)
        index = _index(self.path)
        frames = read_frames(self.path, index, self.start + first, count, stride, area, self.backend)
        return torch.from_numpy(frames).permute(0, 3, 1, 2)


class Material:
    """Decoded files on a device. Asking for a file that could not be decoded raises the error of its decoding."""

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self._kept: dict[Photo | Film, Tensor | VideoError | None] = {}  # None: requested, not decoded yet

    def __getitem__(self, file: Photo | Film) -> Tensor:
        """The tensor of a photograph, 3 H W, or of a film, T 3 H W."""
        kept = self._kept[file]
        assert kept is not None, "loaded before it is shown"
        if isinstance(kept, VideoError):
            raise VideoError(str(kept))
        return kept

    def request(self, files: Iterable[Photo | Film]) -> None:
        for file in files:
            self._kept.setdefault(file)

    def load(self, device: torch.device, memory: float, others: int, used_for: str) -> None:
        """Decode all requested files that are not decoded yet. Too little memory is an error.

        Args:
            memory: limit in gigabytes for the files and `others` together.
            others: bytes that the caller needs beside the files.
            used_for: what those bytes are, for the error message.
        """
        with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:
            taken = sum(pool.map(_nbytes, self._kept, self._kept.values()))
            whole = taken + others
            require(
                whole <= memory * GIGABYTE,
                f"the material takes {taken / GIGABYTE:.3g} GB of the device's memory and {used_for} "
                f"{others / GIGABYTE:.3g} GB: {whole / GIGABYTE:.3g} GB together, run.memory allows {memory:g}",
            )
            if device != self.device:
                self.device, self._kept = device, dict.fromkeys(self._kept)
            missing = [file for file, kept in self._kept.items() if kept is None]
            self._kept.update(zip(missing, pool.map(self._decode, missing), strict=True))

    def _decode(self, file: Photo | Film) -> Tensor | VideoError:
        try:
            return file.read().to(self.device).contiguous()
        except VideoError as error:
            return error


def _nbytes(file: Photo | Film, kept: Tensor | VideoError | None) -> int:
    try:
        return kept.nbytes if isinstance(kept, Tensor) else file.nbytes
    except VideoError:
        return 0


@lru_cache(KEPT_INDEXES)
def _index(path: Path) -> FilmIndex:
    """A film's index, which is read once for all data sets that use the film."""
    return index_film(path)
