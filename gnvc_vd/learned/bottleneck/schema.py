"""Names of a latent codec's tensors in files and identities, independent of names in the code.

Streams identify their model by a hash of its tensors and their names. If these were the attributes' names, renaming an
attribute would change the identity of every stream. So stored names are listed here, for each class of module: the
attribute on the left, the stored name on the right. Attributes that are not listed are refused.
"""

import hashlib
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from gnvc_vd.entropy.integer import UNITS, IntegerConv
from gnvc_vd.learned.bottleneck.base import Bottleneck
from gnvc_vd.learned.bottleneck.contextual import Contextual
from gnvc_vd.learned.bottleneck.gains import Gains
from gnvc_vd.learned.bottleneck.hyperprior import EntropyModel, TemporalState
from gnvc_vd.learned.bottleneck.networks import Analysis, DepthBlock, Extractor, Synthesis
from gnvc_vd.learned.bottleneck.pyramid import Pyramid
from gnvc_vd.learned.bottleneck.slices import SliceEntropy
from gnvc_vd.learned.bottleneck.transform import Correction, OrthonormalTransform, Transform
from gnvc_vd.presets import BottleneckPreset, TransformPreset

ARITHMETIC = 1  # to be raised if the same integers and bytes would decode to other symbols
IDENTITY_BYTES = 8


def _same(names: str) -> dict[str, str]:
    return {name: name for name in names.split()}


SCHEMA: dict[type[nn.Module], Mapping[str, str]] = {  # version 1: all that ARITHMETIC 1 wrote
    Contextual: _same(
        "anchor_analysis anchor_synthesis analysis synthesis extractor anchor_entropy entropy state"
        " table_frequencies frozen"
    ),
    Analysis: _same("enter fine down coarse leave"),
    Synthesis: _same("enter coarse up meet fine leave"),
    Extractor: _same("enter blocks"),
    DepthBlock: _same("spatial widen narrow"),
    EntropyModel: _same(
        "gains hyper_gains analysis synthesis enter fuse first neighbours second"
        " quality_knots hyper_levels quality_integers hyper_level_integers"
    ),
    Gains: _same("knots gain_integers inverse_integers level_integers"),
    TemporalState: _same("begin move"),
    IntegerConv: _same("weight bias weight_integers bias_integers shift"),
    Transform: _same("rotation smooth details higher pyramid correction places table_frequencies frozen"),
    Pyramid: _same("ratio_integers"),
    OrthonormalTransform: _same("mean measured basis turn carry"),
    Correction: _same("enter quality_knots blocks leave"),
    SliceEntropy: _same(
        "context fuse neighbours deeper heads start knots band_gain band_levels level_knots quality_knots row_bias"
        " log_scale gain_integers inverse_integers level_integers scale_integers inverse_scale_integers"
        " row_level_integers quality_integers row_integers"
    ),
}


def sizes_text(preset: BottleneckPreset) -> str:
    """The codec's kind and sizes as text, which the identity hashes: as in version 1, without newer fields."""
    if isinstance(preset, TransformPreset):
        kind, names = "TransformPreset", "prior state width blocks"
    else:
        kind, names = "BottleneckPreset", "features width symbols hyper prior state blocks"
    return f"{kind}({', '.join(f'{name}={getattr(preset, name)}' for name in names.split())})"


def stored_names(model: Bottleneck) -> dict[str, str]:
    """The stored name of every tensor, by its name in the model's state dict."""
    return {path: _stored_name(model, path) for path in model.state_dict()}


def stored_tensors(model: Bottleneck) -> dict[str, Tensor]:
    """All tensors of the model by their stored names, as in a file."""
    state, names = model.state_dict(), stored_names(model)
    return {names[path]: value for path, value in state.items()}


def pack_tensors(model: Bottleneck) -> dict[str, Tensor]:
    """The tensors in a compact form for files: only the integers of integer layers, with 8-bit weights, and other
    layers' weights in half precision.
    """
    tensors = stored_tensors(model)
    for layer in _integer_layers(tensors):
        tensors[f"{layer}.weight_integers"] = tensors[f"{layer}.weight_integers"].to(torch.int8)
        del tensors[f"{layer}.weight"], tensors[f"{layer}.bias"]
    return {name: value.half() if name.endswith(".weight") else value for name, value in tensors.items()}


def unpack_tensors(tensors: Mapping[str, Tensor], model: Bottleneck) -> dict[str, Tensor]:
    """Undo `pack_tensors`; missing floats of integer layers are computed from their integers.

    The tensors may come from an untrusted file: those that fit no layer are left for `fill` to refuse.
    """
    unpacked_tensors = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    shapes = {name: value.shape for name, value in stored_tensors(model).items()}
    for layer in _integer_layers(shapes):
        names = [f"{layer}.{part}" for part in ("weight_integers", "bias_integers", "shift")]
        if not all(name in unpacked_tensors and unpacked_tensors[name].shape == shapes[name] for name in names):
            continue
        weights, bias, shift = (unpacked_tensors[name] for name in names)
        unpacked_tensors[names[0]] = weights.to(torch.int16) if weights.dtype == torch.int8 else weights
        unit = torch.exp2(-shift.float())
        made = weights.float() * unit[:, None], bias.float() * unit / UNITS
        for part, value in zip(("weight", "bias"), made, strict=True):
            unpacked_tensors.setdefault(f"{layer}.{part}", value.reshape(shapes[f"{layer}.{part}"]))
    return unpacked_tensors


def _integer_layers(names: Iterable[str]) -> list[str]:
    return [name.removesuffix(".weight_integers") for name in names if name.endswith(".weight_integers")]


def coded_identity(model: Bottleneck) -> bytes:
    """Hash of the integers that decide symbols and of the arithmetic's version, 8 bytes; streams hold it."""
    digest = hashlib.blake2b(f"{ARITHMETIC} {sizes_text(model.preset)}".encode(), digest_size=IDENTITY_BYTES)
    for name, value in sorted(stored_tensors(model).items()):
        if not value.is_floating_point():
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.digest()


def _stored_name(module: nn.Module, path: str) -> str:
    words = []
    for attribute in path.split("."):
        names = SCHEMA.get(type(module))
        if names is None and type(module).__module__.startswith("torch.nn."):
            words.append(attribute)
        elif names is not None and attribute in names:
            words.append(names[attribute])
        else:
            raise LookupError(f"{type(module).__name__}.{attribute} has no stored name in SCHEMA")
        module = getattr(module, attribute)
    return ".".join(words)
