"""Where metric networks find their weights: inside packages, or in torchvision's cache. Tensors only are read."""

import importlib.util
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
FILES = {"lpips_alex": ALEXNET, "lpips_vgg": VGG16, "dists": VGG16, "e_warp": RAFT_LARGE}  # e_warp: if by RAFT


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


def from_torch_home(name: str) -> dict[str, Tensor]:
    """A weight file of torchvision's; refused if it is not what its name says."""
    path = in_torch_home(name)
    if not path.is_file():
        raise UnavailableError(missing_message(name))
    digest = name.removesuffix(".pth").rpartition("-")[2]
    actual = file_sha256(path)
    if not actual.startswith(digest):
        raise UnavailableError(f"{path} is not the file of that name: its sha256 begins with {actual[: len(digest)]}")
    return read_foreign(path)
