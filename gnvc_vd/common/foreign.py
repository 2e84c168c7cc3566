"""Other projects' .pth files: tensors only, nothing else is unpickled."""

import pickle
from pathlib import Path

import torch
from torch import Tensor

from gnvc_vd.conventions import GnvcError


def read_foreign(path: Path) -> dict[str, Tensor]:
    """The named tensors of a file that may come from a stranger."""
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise GnvcError(f"{path}: refused, not a plain file of tensors ({str(error).splitlines()[0]})") from error
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise GnvcError(f"{path}: refused, not a plain file of tensors")
    return tensors
