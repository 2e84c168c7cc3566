"""diffusers' models imported without the packages that stand beside them. For programs; a library must not.

When diffusers is first imported it asks which of some packages are there, and from then on imports those with whatever
is asked of it. Wan's two networks need none of them, and they take half the time. What diffusers was not shown it never
sees later in that process, so its pipelines are of no use there.
"""

import importlib
import sys

BESIDE = ("accelerate", "peft", "scipy", "torchvision", "transformers")


def import_diffusers() -> None:
    """Nothing happens where diffusers is imported already."""
    if "diffusers" in sys.modules:
        return
    hidden = {name: None for name in BESIDE if name not in sys.modules}
    sys.modules |= hidden  # type: ignore[arg-type]  # None is how Python says that there is no such module
    try:
        importlib.import_module("diffusers.models.modeling_utils")  # what all its models are built on
    finally:
        for name in hidden:
            del sys.modules[name]
