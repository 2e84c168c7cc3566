"""Clips of photographs under a simulated camera: clean pictures with synthetic motion, for small models."""

from functools import partial
from pathlib import Path

from torch import Tensor

from gnvc_vd.data.clips import ClipSpec
from gnvc_vd.data.manifests import entries_of, inside
from gnvc_vd.data.material import Material, Photo
from gnvc_vd.data.samples import Draws, ItemClips, UnsuitableError
from gnvc_vd.data.scenery import moving_clip

LONGEST_SIDE = 1920  # pixels; larger photographs are shrunk when they are read
MEMORY = 1 << 30  # bytes


class PhotoClips(ItemClips):
    """Clips of the photographs in a folder, or of a manifest; a pass takes one clip of each.

    Args:
        source: a folder of .jpg and .png files, searched with those inside it, or a manifest.
        memory: bytes of decoded photographs that are kept; beyond it they are decoded every time.
        longest_side: to which larger photographs are shrunk.
    """

    def __init__(
        self,
        source: str | Path,
        spec: ClipSpec,
        split: str | None = "train",
        memory: int = MEMORY,
        longest_side: int = LONGEST_SIDE,
    ) -> None:
        self.root, self._entries = entries_of(Path(source), "photos", split)
        super().__init__([entry.name for entry in self._entries], spec.seed)
        self.spec, self._longest_side, self._room = spec, longest_side, memory
        self._kept: dict[int, Tensor] = {}
        self._material: Material | None = None

    def register_files(self, material: Material) -> None:
        self._material, self._kept = material, {}
        material.request(self._all(self._file))

    def _clip(self, item: int, draws: Draws) -> Tensor:
        other = draws.below(len(self))
        background = self._photo(item)
        nearer = self._try_item(other, partial(self._photo, other))
        return moving_clip(draws, background, background if nearer is None else nearer, self.spec)

    def _photo(self, item: int) -> Tensor:
        """3 H W uint8."""
        if item in self._kept:
            return self._kept[item]
        file = self._file(item)
        photo = file.read() if self._material is None else self._material[file]
        if photo.shape[1] <= self.spec.height or photo.shape[2] <= self.spec.width:
            raise UnsuitableError(
                f"{photo.shape[2]}×{photo.shape[1]} pixels, a clip is {self.spec.width}×{self.spec.height}"
            )
        if self._material is None and photo.nbytes <= self._room:
            self._kept[item] = photo
            self._room -= photo.nbytes
        return photo

    def _file(self, item: int) -> Photo:
        entry = self._entries[item]
        return Photo(inside(self.root, entry.path), self._longest_side, entry.height, entry.width)
