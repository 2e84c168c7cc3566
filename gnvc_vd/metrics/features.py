"""Measures on the features of pretrained networks: CLIP-F, and a Fréchet distance of clips.

    frames ──CLIP──▶ unit vectors ──▶ mean cosine of neighbours                       CLIP-F of one video
    clips of both videos ──VideoMAE──▶ vectors ──▶ Fréchet distance of two Gaussians  "FVD-style"

The networks are folders in transformers' layout (config.json, model.safetensors), read from disk alone. FVD proper
has I3D features and thousands of clips; a figure from here is named after its own network and number of clips.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 – everyone's name for it
from numpy.typing import NDArray
from torch import Tensor

from gnvc_vd.conventions import GnvcError
from gnvc_vd.metrics import UnavailableError
from gnvc_vd.metrics.pairs import Pair

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ClipNetwork:
    """VideoMAE: 1 3 T H W in [−1, 1] of exactly `frames` frames → (D,), its last hidden state's mean over tokens."""

    frames: int
    features: Callable[[Tensor], NDArray[np.float64]]


def clip_images(folder: Path, device: str = "cpu") -> Callable[[Tensor], Tensor]:
    """CLIP's image encoder: B 3 H W in [−1, 1] → (B, D) of length 1."""
    from transformers import CLIPVisionModelWithProjection

    network = _load(CLIPVisionModelWithProjection, folder, device)
    size = int(network.config.image_size)

    @torch.inference_mode()
    def embed(pictures: Tensor) -> Tensor:
        return F.normalize(network(_prepared(pictures, size, CLIP_MEAN, CLIP_STD)).image_embeds.float(), dim=-1)

    return embed


def videomae(folder: Path, device: str = "cpu") -> ClipNetwork:
    from transformers import VideoMAEModel

    network = _load(VideoMAEModel, folder, device)
    size = int(network.config.image_size)

    @torch.inference_mode()
    def features(clip: Tensor) -> NDArray[np.float64]:
        pictures = _prepared(clip[0].transpose(0, 1), size, IMAGENET_MEAN, IMAGENET_STD)  # T 3 H W
        return network(pictures[None]).last_hidden_state.float().mean((0, 1)).double().cpu().numpy()

    return ClipNetwork(int(network.config.num_frames), features)


class ClipF:
    """CLIP-F: the mean cosine of the CLIP embeddings of a video's neighbouring frames. 1 is no change at all.

    The test's is the figure; `original()` is the original's, without which it says little.
    """

    def __init__(self, embed: Callable[[Tensor], Tensor]) -> None:
        self._embed = embed
        self._before: Tensor | None = None
        self._cosines: list[Tensor] = []  # (2,) each: of the original and of the test

    def add(self, pair: Pair) -> None:
        before, self._before = self._before, self._embed(torch.cat(pair.tensors))
        if before is not None:
            self._cosines.append((before * self._before).sum(1))

    def value(self) -> float:
        if not self._cosines:
            raise UnavailableError("CLIP-F needs at least two frames")
        return float(torch.stack(self._cosines)[:, 1].mean())

    def original(self) -> float:
        return float(torch.stack(self._cosines)[:, 0].mean())


class ClipFeatures:
    """A video's features, clip after clip without overlap; frames after the last whole clip are left out."""

    def __init__(self, network: ClipNetwork) -> None:
        self._network = network
        self._frames: list[Tensor] = []
        self.features: list[NDArray[np.float64]] = []

    def add(self, frame: Tensor) -> None:
        self._frames.append(frame)
        if len(self._frames) == self._network.frames:
            self.features.append(self._network.features(torch.stack(self._frames, dim=2)))
            self._frames = []


class FrechetDistance:
    """`frechet_distance` of the features of both videos' clips."""

    def __init__(self, network: ClipNetwork) -> None:
        self._videos = ClipFeatures(network), ClipFeatures(network)

    def add(self, pair: Pair) -> None:
        for video, frame in zip(self._videos, pair.tensors, strict=True):
            video.add(frame)

    def value(self) -> float:
        x, y = (np.array(video.features) for video in self._videos)
        return frechet_distance(x, y)


def frechet_distance(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """|μ_x − μ_y|² + tr(Σ_x + Σ_y − 2 (Σ_x Σ_y)^½) of two sets of vectors (N, D); covariances over N − 1.

    Of few vectors it is biased upwards: compare only figures from equal numbers of clips.
    """
    if min(len(x), len(y)) < 2:
        raise UnavailableError(f"a Fréchet distance needs at least two clips of each video, not {len(x)} and {len(y)}")
    x_root, y_root = _covariance_root(x), _covariance_root(y)
    shared = np.linalg.svd(x_root @ y_root.T, compute_uv=False).sum()  # tr (Σ_x Σ_y)^½: R_x R_yᵀ has its eigenvalues
    means = np.square(x.mean(0) - y.mean(0)).sum()
    return float(means + np.square(x_root).sum() + np.square(y_root).sum() - 2 * shared)


def _covariance_root(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """R with RᵀR the covariance of the rows of z; as few rows as there are vectors or dimensions."""
    return np.asarray(np.linalg.qr((z - z.mean(0)) / np.sqrt(len(z) - 1), mode="r"))


def _load(kind: Any, folder: Path, device: str) -> Any:
    for file in ("config.json", "model.safetensors"):
        if not (folder / file).is_file():
            raise UnavailableError(
                f"needs a {kind.__name__} folder in transformers' layout; {folder / file} is missing"
            )
    network, notes = kind.from_pretrained(folder, local_files_only=True, use_safetensors=True, output_loading_info=True)
    if notes["missing_keys"]:  # they would be random numbers
        raise GnvcError(f"{folder}: not a whole {kind.__name__}, it lacks {sorted(notes['missing_keys'])[0]}")
    return network.eval().to(device)


def _prepared(pictures: Tensor, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """[−1, 1] to the network's input: shorter side to `size` (bicubic, antialiased), centre square, normalised."""
    height, width = pictures.shape[-2:]
    scale = size / min(height, width)
    shape = (max(size, round(height * scale)), max(size, round(width * scale)))
    resized = F.interpolate(pictures.float(), shape, mode="bicubic", antialias=True, align_corners=False).clamp(-1, 1)
    top, left = (shape[0] - size) // 2, (shape[1] - size) // 2
    square = resized[..., top : top + size, left : left + size]
    return ((square + 1) / 2 - square.new_tensor(mean).view(3, 1, 1)) / square.new_tensor(std).view(3, 1, 1)
