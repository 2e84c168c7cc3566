"""Lets torchvision import beside a CPU-only torch. Import this before diffusers, lpips, compressai or torchvision.

The package index's torchvision is built for CUDA. Its compiled operators do not load beside a CPU build of torch, and
then `import torchvision` fails with "operator torchvision::nms does not exist", because it attaches fake kernels to
operators that were never declared. Declaring those two is enough for the import; calling them still fails, and nothing
here calls them. Any other pair of builds is left alone: declaring them twice would break what works.
"""

import importlib.util
from pathlib import Path

import torch

SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def torchvision_is_cuda_build() -> bool:
    """Read from torchvision's version file, since importing it is what fails (package metadata omits the build)."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    version = Path(spec.origin).with_name("version.py")
    return version.is_file() and "+cu" in version.read_text()


def declare_torchvision_operators() -> None:
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", SIGNATURE)


if torch.version.cuda is None and torchvision_is_cuda_build():
    declare_torchvision_operators()
