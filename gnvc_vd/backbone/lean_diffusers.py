"""diffusers' models imported without what stands beside them and torch's compiler. For programs; a library must not.

When diffusers is first imported it asks which of some packages are there, and from then on imports those with whatever
is asked of it; it lists all installed packages, reads the transformers of all its models, imports a client for
downloads, and marks classes for a compiler that takes longer to import than all the rest. Wan's networks need none of
that. What diffusers was not shown it never sees later in that process, so its pipelines and whatever it would download
are of no use there.
"""

import importlib.metadata
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch.overrides import TorchFunctionMode

BESIDE = ("accelerate", "peft", "scipy", "torchvision", "transformers")
COMPILER, TRANSFORMERS, HUB = "torch._dynamo", "diffusers.models.transformers", "huggingface_hub"
DOWNLOADING = (f"{HUB}.utils", f"{HUB}.errors", f"{HUB}.file_download", "requests")


def import_diffusers(lean: bool) -> None:
    """Import diffusers' Wan transformers, lean or as they are.

    If diffusers is imported already, nothing changes. If transformers is, diffusers sees it and asks it for what needs
    accelerate, so that nothing can be hidden; it has cost its time anyway. The hub's client, too, if it is imported: it
    imports its modules when they are first asked for, and would keep what stood for them.
    """
    if not lean or not sys.modules.keys().isdisjoint({"diffusers", "transformers", HUB}):
        import diffusers.models.transformers.transformer_wan_vace  # what all its models are built on, too

        return
    home = find_spec("diffusers")
    folders = [f"{home}/models/transformers" for home in (home and home.submodule_search_locations) or ()]
    stand_ins = {
        COMPILER: _module(COMPILER, allow_in_graph=_unmarked, disable=_unmarked),
        TRANSFORMERS: _module(TRANSFORMERS, __path__=folders),  # a package whose modules are imported one by one
        HUB: _module(HUB, __spec__=find_spec(HUB), __getattr__=_uncalled),
        f"{HUB}.constants": _module(f"{HUB}.constants", HF_HOME="", HF_HUB_OFFLINE=False, __getattr__=_uncalled),
        **{name: _module(name, __getattr__=_uncalled) for name in DOWNLOADING},
        **dict.fromkeys(BESIDE),  # None is how Python says that there is no such module
    }
    stand_ins = {name: one for name, one in stand_ins.items() if name not in sys.modules}
    listing = importlib.metadata.packages_distributions
    sys.modules |= stand_ins  # type: ignore[arg-type]
    importlib.metadata.packages_distributions = dict  # an empty list
    try:
        import diffusers.models.transformers.transformer_wan_vace  # noqa: F401
    finally:
        importlib.metadata.packages_distributions = listing
        for name in stand_ins:
            del sys.modules[name]


@contextmanager
def without_values() -> Iterator[None]:
    """Build modules on the meta device, so that a wrong size is found before any memory is taken for it."""
    with torch.device("meta"), _SmallTables():
        yield


class _SmallTables(TorchFunctionMode):
    """Rotary tables, made of ranges, are in no file and get their values; drawn tables, which are, none.

    Both are made on the CPU: of all functions these two have torch's compiler imported on the meta device.
    """

    made_by: ClassVar = {torch.arange: torch.arange, torch.randn: torch.zeros}

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        place = {"device": "cpu"} if function in self.made_by else {}
        return self.made_by.get(function, function)(*args, **(kwargs or {}) | place)


def _module(name: str, **members: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(members)
    return module


def _unmarked(function: Any = None, *_: object, **__: object) -> Any:
    """A mark for the compiler that leaves a function or class as it is."""
    return _unmarked if function is None else function


def _uncalled(name: str) -> Any:
    """What stands for a module's member of any name: some mark functions, and the others are never called."""
    if name.startswith("__"):
        raise AttributeError(name)
    return _unmarked
