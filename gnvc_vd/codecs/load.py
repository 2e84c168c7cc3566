"""Load a whole codec by name; save one to a model folder.

nano           random weights from a seed, for tests: its pictures mean nothing
tiny           small and trained: comes with the package
model folder   model.json, the backbone's files or a reference to them, codec.safetensors, adaptor.safetensors
hub id         owner/name or owner/name@revision: a model folder that scripts/fetch_weights.py downloaded
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gnvc_vd.backbone.folder import DESCRIPTION, CodecReference, check_file, read_description, write_description
from gnvc_vd.backbone.lean_diffusers import without_values
from gnvc_vd.backbone.sources import fill, model_folder, read_tensors
from gnvc_vd.backbone.weights import Backbone, Options, load_backbone, save_backbone
from gnvc_vd.bitstream import CodecId, Header
from gnvc_vd.bitstream.refinement import Refinement
from gnvc_vd.codecs.contract import Codec
from gnvc_vd.common.files import file_sha256, replacing
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.learned.bottleneck.base import Bottleneck
from gnvc_vd.learned.bottleneck.kinds import bottleneck_of
from gnvc_vd.learned.bottleneck.schema import pack_tensors, stored_names, stored_tensors, unpack_tensors
from gnvc_vd.learned.codec import EncodeOptions, GnvcVd, shown_identity_of
from gnvc_vd.presets import PRESETS, RANDOM_SEED, AdaptorPreset

if TYPE_CHECKING:
    from gnvc_vd.learned.refine.refiner import Refiner
    from gnvc_vd.zeroshot.codec import Gvc
    from gnvc_vd.zeroshot.encoding import GvcEncodeOptions

DEFAULT_MODEL = "tiny"  # it comes with the package
CODEC_FILE, ADAPTOR_FILE = "codec.safetensors", "adaptor.safetensors"


def load(name: str | Path | None = None, options: Options | None = None) -> GnvcVd:
    """Load GNVC-VD from a preset name, model folder or hub id (default: tiny), without network."""
    name = name or DEFAULT_MODEL
    backbone, folder = load_backbone(name, options), model_folder(name)
    reference = _reference(folder)
    if reference is not None:
        with without_values():
            bottleneck = bottleneck_of(reference.bottleneck, reference.thrift)
        states = _codec_states(folder, reference, bottleneck)
        fill(bottleneck, states[CODEC_FILE], str(folder), stored_names(bottleneck))
        bottleneck.check(str(folder))
        adaptor = states[ADAPTOR_FILE]
        return _assemble(backbone, bottleneck, reference.adaptor, reference.refinement, adaptor, str(folder))
    if name != "nano":
        raise GnvcError(f"{backbone.name} has no trained codec yet; load_backbone gives its VAE and transformer")
    sizes = PRESETS["nano"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        bottleneck = bottleneck_of(sizes.bottleneck())
        bottleneck.freeze()
    return _assemble(backbone, bottleneck, sizes.adaptor, Refinement())


def highest_refined_quality(name: str | Path | None = None) -> int:
    """The highest quality that a model refines by default; −1 if it was trained without a refiner."""
    reference = _reference(model_folder(name or DEFAULT_MODEL))
    refinement = Refinement() if reference is None else reference.refinement
    return refinement.highest_quality if refinement.steps else -1


def load_gvc(
    name: str | Path | None = None, options: Options | None = None, still_weights: str | Path | None = None
) -> "Gvc":
    """Load GVC, the zero-shot codec, from a preset name, folder or hub id; it needs a backbone alone.

    Args:
        still_weights: weights of a learned codec for given frames, used instead of AV1.
    """
    from gnvc_vd.zeroshot.codec import Gvc
    from gnvc_vd.zeroshot.stills import Factorized

    require(not (options and options.compile), "GVC's decoder follows its encoder's floats: leave compiling out")
    stills = None if still_weights is None else Factorized(Path(still_weights))
    return Gvc(load_backbone(name or DEFAULT_MODEL, options), stills)


def load_for(
    header: Header,
    name: str | Path | None = None,
    still_weights: str | Path | None = None,
    options: Options | None = None,
) -> "Codec[EncodeOptions] | Codec[GvcEncodeOptions]":
    """Load the codec for a stream with this header; still weights are used only if the header asks for them.

    Args:
        options: for GVC, whose decoder follows its encoder's floats, none that change them.
    """
    if header.codec is CodecId.GVC:
        from gnvc_vd.zeroshot.parameters import Parameters

        stills = Parameters.parse(header.parameters).still
        return load_gvc(name, options, None if stills == "av1" else still_weights)
    if still_weights is not None:
        raise UsageError("--still-weights is an option of GVC, but this is a stream of GNVC-VD")
    return load(name, options)


def save(codec: GnvcVd, folder: Path, name: str, half: bool = False, location: str | None = None) -> None:
    """Write a model folder: backbone, codec and adaptor.

    Args:
        half: save space: float weights in half precision, and integer networks without their float weights.
        location: preset or hub id of the backbone; the folder then refers to it instead of holding its weights.
    """
    from safetensors.torch import save_file

    with replacing(folder) as part:
        save_backbone(codec.backbone, part, name, half, location)
        adaptor = {key: value.half() if half else value for key, value in codec.refiner.adaptor().items()}
        bottleneck = pack_tensors(codec.bottleneck) if half else stored_tensors(codec.bottleneck)
        contents = {CODEC_FILE: bottleneck, ADAPTOR_FILE: adaptor}
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


def start_from(name: str, bottleneck: Bottleneck, refiner: "Refiner") -> bool:
    """Copy a model's trained codec into `bottleneck`, and a trained adaptor into `refiner`, in float32 for training.

    An adaptor that no step has trained is left, since `refiner` may begin with VACE's weights.

    Raises:
        GnvcError: another codec, or a trained adaptor with other layers or inputs than `refiner` has; a refiner without
            layers takes none.

    Returns:
        False if the model has no trained codec.
    """
    from gnvc_vd.learned.refine.adaptor import is_identity  # diffusers is imported where there is a refiner

    folder = model_folder(name)
    reference = _reference(folder)
    if reference is None:
        return False
    if reference.bottleneck != bottleneck.preset:
        raise GnvcError(f"{folder}: its latent codec is of another kind or size; model.begin=measured begins anew")
    states = _codec_states(folder, reference, bottleneck)
    fill(bottleneck, states[CODEC_FILE], str(folder), stored_names(bottleneck))
    if refiner.preset.layers and not is_identity(states[ADAPTOR_FILE]):
        same = reference.adaptor == refiner.preset
        why = "its trained adaptor has other layers or inputs: say adaptor.* as it was trained"
        require(same, f"{folder}: {why}, or adaptor=none to leave it out", GnvcError)
        refiner.load_adaptor(states[ADAPTOR_FILE], str(folder), torch.float32)
    return True


def _reference(folder: Path) -> CodecReference | None:
    return read_description(folder).codec if (folder / DESCRIPTION).is_file() else None


def _assemble(
    backbone: Backbone,
    bottleneck: Bottleneck,
    preset: AdaptorPreset,
    refinement: Refinement,
    adaptor: Mapping[str, Tensor] | None = None,
    where: str = "",
) -> GnvcVd:
    """Build the codec; without adaptor weights, the adaptor is the untrained one of its backbone, not hashed."""

    def refiner() -> "Refiner":
        dit = backbone.dit  # first: it may have its own way of importing diffusers

        from gnvc_vd.learned.refine.refiner import Refiner

        made = Refiner(dit, preset, bottleneck.preset.features, copies=adaptor is None)
        if adaptor is not None:
            made.load_adaptor(adaptor, where)
        return made.requires_grad_(False)

    shown_identity = shown_identity_of(backbone, bottleneck.requires_grad_(False), adaptor or {})
    return GnvcVd(backbone.name, backbone, bottleneck, shown_identity, refiner, backbone.note, refinement)


def _codec_states(folder: Path, reference: CodecReference, bottleneck: Bottleneck) -> dict[str, dict[str, Tensor]]:
    """Tensors of the codec's and the adaptor's files; packed ones are unpacked to float32."""
    if set(reference.files) != {CODEC_FILE, ADAPTOR_FILE}:
        raise GnvcError(f"{folder}: a codec is {CODEC_FILE} and {ADAPTOR_FILE}, not {sorted(reference.files)}")
    states = {file: read_tensors([check_file(folder, file, sha)]) for file, sha in reference.files.items()}
    return states | {CODEC_FILE: unpack_tensors(states[CODEC_FILE], bottleneck)}
