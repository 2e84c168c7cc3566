"""The names by which a latent codec's tensors are known in files and identities, whatever the code calls them.

A stream names its model by hashes over tensors and their names. Were these Python's names, renaming an attribute or a
class, or adding a field to a preset, would change the identity of every stream. So the names are written here, for each
kind of part: attribute on the left, stored name on the right. What has no line here is refused.
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

ARITHMETIC = 1  # changes whenever the same integers and bytes would decode to other symbols
IDENTITY_BYTES = 8


def _same(names: str) -> dict[str, str]:
    return {name: name for name in names.split()}


SCHEMA: dict[type[nn.Module], Mapping[str, str]] = {  # version 1: everything that ARITHMETIC 1 wrote
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
    """What an identity says of the kind and its sizes: version 1 hashed this text, and no other field."""
    if isinstance(preset, TransformPreset):
        kind, names = "TransformPreset", "prior state width blocks"
    else:
        kind, names = "BottleneckPreset", "features width symbols hyper prior state blocks"
    return f"{kind}({', '.join(f'{name}={getattr(preset, name)}' for name in names.split())})"


def stored_names(model: Bottleneck) -> dict[str, str]:
    """The stored name of every tensor of its state, by the path of attributes that leads to it."""
    return {path: _stored_name(model, path) for path in model.state_dict()}


def stored_tensors(model: Bottleneck) -> dict[str, Tensor]:
    """All of its tensors by their stored names: what a file holds."""
    state, names = model.state_dict(), stored_names(model)
    return {names[path]: value for path, value in state.items()}


def pack_tensors(model: Bottleneck) -> dict[str, Tensor]:
    """The same in as few bytes as a shipped file needs: integer layers as their integers alone, 8 bits a weight, and
    weights of other layers in half precision.
    """
    tensors = stored_tensors(model)
    for layer in _integer_layers(tensors):
        tensors[f"{layer}.weight_integers"] = tensors[f"{layer}.weight_integers"].to(torch.int8)
        del tensors[f"{layer}.weight"], tensors[f"{layer}.bias"]
    return {name: value.half() if name.endswith(".weight") else value for name, value in tensors.items()}


def unpack_tensors(tensors: Mapping[str, Tensor], model: Bottleneck) -> dict[str, Tensor]:
    """All of its tensors again; integer layers' floats, if they are not there, are what the integers stand for.

    Nothing is believed of the tensors, which may be a stranger's: what fits no layer is left to who fills the model.
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
    """8 bytes over the integers that decide symbols and the version of the arithmetic: what a stream says of them."""
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
            raise LookupError(f"{type(module).__name__}.{attribute} has no name in the schema of identities")
        module = getattr(module, attribute)
    return ".".join(words)
