"""A whole codec by name, and back into a model folder.

nano           random weights from a seed, frozen: runs everywhere, its pictures mean nothing
tiny           small and trained: comes with the package
model folder   model.json, the backbone's files or a reference to them, codec.safetensors, adaptor.safetensors
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gnvc_vd.backbone.folder import (
    DESCRIPTION,
    CodecReference,
    checked_file,
    read_description,
    write_description,
)
from gnvc_vd.backbone.sources import fill, model_folder, read_tensors
from gnvc_vd.backbone.weights import Backbone, Options, load_backbone, save_backbone
from gnvc_vd.bitstream import CodecId, Header
from gnvc_vd.codecs.contract import Codec
from gnvc_vd.common.files import file_sha256, replacing
from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.learned.bottleneck.contextual import Bottleneck
from gnvc_vd.learned.bottleneck.schema import stored_names, stored_tensors
from gnvc_vd.learned.codec import Encoding, GnvcVd, shown_identity_of
from gnvc_vd.presets import PRESETS, RANDOM_SEED
from gnvc_vd.zeroshot.codec import Gvc
from gnvc_vd.zeroshot.encoding import GvcEncoding
from gnvc_vd.zeroshot.parameters import Parameters
from gnvc_vd.zeroshot.stills import Factorized

if TYPE_CHECKING:
    from gnvc_vd.learned.refine.refiner import Refiner

DEFAULT_MODEL = "tiny"  # it comes with the package
CODEC_FILE, ADAPTOR_FILE = "codec.safetensors", "adaptor.safetensors"


def load(name: str | Path | None = None, options: Options | None = None) -> GnvcVd:
    """The codec of a preset or model folder; of tiny, unless one is named."""
    name = name or DEFAULT_MODEL
    if name == "nano":
        return _nano(options)
    folder = model_folder(name)
    if (folder / DESCRIPTION).is_file():
        description = read_description(folder)
        if description.codec is not None:
            return _from_folder(folder, description.codec, load_backbone(name, options))
    backbone = load_backbone(name, options)
    raise GnvcError(f"{backbone.name} has no trained codec yet; load_backbone gives its VAE and transformer")


def load_gvc(
    name: str | Path | None = None, options: Options | None = None, still_weights: str | Path | None = None
) -> Gvc:
    """The zero-shot codec on a preset's or folder's backbone: it needs no more.

    Args:
        still_weights: a file for a learned codec of given frames, in AV1's place.
    """
    stills = None if still_weights is None else Factorized(Path(still_weights))
    return Gvc(load_backbone(name or DEFAULT_MODEL, options), stills)


def load_for(
    header: Header, name: str | Path | None = None, still_weights: str | Path | None = None
) -> Codec[Encoding] | Codec[GvcEncoding]:
    """The codec that decodes streams with this header; still weights are for those that say so."""
    if header.codec is CodecId.GVC:
        stills = Parameters.parse(header.parameters).still
        return load_gvc(name, still_weights=None if stills == "av1" else still_weights)
    if still_weights is not None:
        raise UsageError("--still-weights is an option of GVC, and this is a stream of GNVC-VD")
    return load(name)


def save(codec: GnvcVd, folder: Path, name: str, half: bool = False) -> None:
    """A model folder with everything in it; what only shows, not what decides symbols, in half precision if wanted."""
    from safetensors.torch import save_file

    with replacing(folder) as part:
        save_backbone(codec.backbone, part, name, half)
        adaptor = {key: value.half() if half else value for key, value in codec.refiner.adaptor().items()}
        contents = {CODEC_FILE: stored_tensors(codec.bottleneck), ADAPTOR_FILE: adaptor}
        for file, state in contents.items():
            save_file({key: value.detach().cpu().contiguous() for key, value in state.items()}, part / file)
        reference = CodecReference(
            codec.bottleneck.preset,
            codec.refiner.preset,
            {file: file_sha256(part / file) for file in contents},
            codec.refinement,
            codec.bottleneck.thrift,
        )
        write_description(part, replace(read_description(part), codec=reference, note=codec.note))


def _nano(options: Options | None) -> GnvcVd:
    backbone, preset = load_backbone("nano", options), PRESETS["nano"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        bottleneck = Bottleneck(preset.bottleneck)
        bottleneck.freeze()
    bottleneck.requires_grad_(False)
    # Its adaptor follows from its backbone's seed, and says no more than that.
    shown_identity = shown_identity_of(backbone, bottleneck, {})

    def load_refiner() -> "Refiner":
        from gnvc_vd.learned.refine.refiner import Refiner

        return Refiner(backbone.dit, preset.adaptor, preset.bottleneck.features).requires_grad_(False)

    return GnvcVd("nano", backbone, bottleneck, shown_identity, load_refiner, preset.note)


def start_from(name: str, bottleneck: Bottleneck, refiner: "Refiner") -> None:
    """A model's trained codec as a beginning, where it has one; its adaptor only if it is of the same layers."""
    folder = model_folder(name)
    reference = read_description(folder).codec if (folder / DESCRIPTION).is_file() else None
    if reference is None:
        return
    if reference.bottleneck != bottleneck.preset:
        raise GnvcError(f"{folder}: its latent codec has other sizes")
    states = _codec_states(folder, reference)
    own, found = stored_tensors(bottleneck), states[CODEC_FILE]
    if {name: value.shape for name, value in own.items()} != {name: value.shape for name, value in found.items()}:
        raise GnvcError(f"{folder}: the weights do not fit the described latent codec")
    for name, value in own.items():
        value.copy_(found[name])
    if reference.adaptor == refiner.preset:
        refiner.load_adaptor(states[ADAPTOR_FILE], str(folder))


def _from_folder(folder: Path, reference: CodecReference, backbone: Backbone) -> GnvcVd:
    states = _codec_states(folder, reference)
    with torch.device("meta"):
        bottleneck = Bottleneck(reference.bottleneck, thrift=reference.thrift)
    fill(bottleneck, states[CODEC_FILE], str(folder), stored_names(bottleneck))
    bottleneck.check(str(folder))
    bottleneck.requires_grad_(False)
    shown_identity = shown_identity_of(backbone, bottleneck, states[ADAPTOR_FILE])

    def load_refiner() -> "Refiner":
        from gnvc_vd.learned.refine.refiner import Refiner

        refiner = Refiner(backbone.dit, reference.adaptor, reference.bottleneck.features)
        refiner.load_adaptor(states[ADAPTOR_FILE], str(folder))
        return refiner.requires_grad_(False)

    return GnvcVd(
        backbone.name, backbone, bottleneck, shown_identity, load_refiner, backbone.note, reference.refinement
    )


def _codec_states(folder: Path, reference: CodecReference) -> dict[str, dict[str, Tensor]]:
    if set(reference.files) != {CODEC_FILE, ADAPTOR_FILE}:
        raise GnvcError(f"{folder}: a codec is {CODEC_FILE} and {ADAPTOR_FILE}, not {sorted(reference.files)}")
    return {file: read_tensors([checked_file(folder, file, sha)]) for file, sha in reference.files.items()}
