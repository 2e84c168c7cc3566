"""Weight files of metric networks, in packages or torchvision's cache; only tensors are read."""

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from gnvc_vd.common.files import file_sha256
from gnvc_vd.common.foreign import read_foreign
from gnvc_vd.metrics import UnavailableError

# torchvision's names; the eight digits are the beginning of the file's sha256
ALEXNET = "alexnet-owt-7be5be79.pth"
VGG16 = "vgg16-397923af.pth"
RAFT_LARGE = "raft_large_C_T_SKHT_V2-ff5fadd5.pth"
FILES = {"lpips_alex": ALEXNET, "lpips_vgg": VGG16, "dists": VGG16} | dict.fromkeys(("e_warp", "flicker"), RAFT_LARGE)


@dataclass(frozen=True)
class HubNetwork:
    """A network in transformers' layout on the hub: config.json and model.safetensors, whose sha256 is known."""

    repository: str
    revision: str
    sha256: str

    @property
    def name(self) -> str:
        return f"{self.repository}@{self.revision}"


CLIP = HubNetwork(
    "openai/clip-vit-large-patch14",
    "32bd64288804d66eefd0ccbe215aa642df71cc41",
    "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
)
VIDEOMAE = HubNetwork(
    "MCG-NJU/videomae-base", "main", "bc053ca2840a038b1068269a4eec06ca569689e9a1ed9376a5b2b8a111be5290"
)
NETWORKS = {"clip_f": CLIP, "frechet": VIDEOMAE}
HUB_FILES = ("config.json", "model.safetensors")


def from_package(package: str, file: str) -> dict[str, Tensor]:
    """A weight file that an installed package carries; nothing of the package is imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UnavailableError(f"needs the package {package}, which carries its weights")
    path = Path(spec.submodule_search_locations[0]) / file
    if not path.is_file():
        raise UnavailableError(f"needs {path}, which the installed {package} lacks")
    return read_foreign(path)


def in_torch_home(name: str) -> Path:
    """Where torch.hub keeps a weight file of torchvision's."""
    return Path(torch.hub.get_dir()) / "checkpoints" / name


def missing_message(name: str) -> str:
    """What is said of a weight file of torchvision's that is not there."""
    return f"needs torchvision's weights {in_torch_home(name)}, which are not there"


def missing_network(network: HubNetwork, folder: Path) -> str:
    """What is said of a network of the hub's that is not there."""
    return f"needs {network.repository} in {folder}, where it is not: python scripts/fetch_weights.py metrics"


def checked_network(network: HubNetwork, folder: Path) -> Path:
    """The folder of a network of the hub's; refused if its weights are others."""
    weights = folder / HUB_FILES[1]
    if not all((folder / file).is_file() for file in HUB_FILES):
        raise UnavailableError(missing_network(network, folder))
    about = weights.stat()
    if _sha256_once(weights, about.st_size, about.st_mtime_ns) != network.sha256:
        raise UnavailableError(f"{weights} is not {network.repository}'s: its sha256 is another")
    return folder


@cache
def _sha256_once(path: Path, size: int, changed: int) -> str:
    """An evaluation asks for each point."""
    return file_sha256(path)


def digest_of(name: str) -> str:
    """The first digits of a torchvision file's sha256, which end its name."""
    return name.removesuffix(".pth").rpartition("-")[2]


def check_digest(path: Path) -> None:
    """Refuse a weight file of torchvision's that is not there, or is not what its name says."""
    if not path.is_file():
        raise UnavailableError(missing_message(path.name))
    digest, actual = digest_of(path.name), file_sha256(path)
    if not actual.startswith(digest):
        raise UnavailableError(f"{path} is not the file of that name: its sha256 begins with {actual[: len(digest)]}")


def from_torch_home(name: str) -> dict[str, Tensor]:
    """A weight file of torchvision's; refused if it is not what its name says."""
    path = in_torch_home(name)
    check_digest(path)
    return read_foreign(path)
