"""compressai's compiled rANS without the rest of its package, whose data sets and models take seconds to import."""

import importlib
import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from types import ModuleType


def _alone(package: str, name: str) -> ModuleType:
    """A compiled module of a package; the package itself finds it there if it is imported later."""
    whole, parent = f"{package}.{name}", find_spec(package)
    if whole in sys.modules or parent is None:
        return importlib.import_module(whole)
    spec = PathFinder.find_spec(whole, parent.submodule_search_locations)
    if spec is None or spec.loader is None:
        return importlib.import_module(whole)
    module = sys.modules[whole] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_ans = _alone("compressai", "ans")
BufferedRansEncoder, RansDecoder = _ans.BufferedRansEncoder, _ans.RansDecoder
