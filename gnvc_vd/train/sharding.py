"""A transformer divided over the processes: for one that is too large, with its moments, to lie whole on each device.

    matrices of the transformer, trained or frozen     a part on each device, a block gathered while it computes (FSDP)
    all else: its vectors, the latent codec, the VAE   whole on each device, gradients averaged (DDP)

Matrices are nearly all of a transformer, and just what autocast computes in bfloat16. They are gathered in that
precision and all else stays float32, so sharding changes no arithmetic but the order of sums over processes.

With replicas, each group of processes, one for each machine, holds a whole transformer between them: parts are gathered
within a machine, and only gradients go from one to another (HSDP).
"""

import warnings
from itertools import chain

import torch
from accelerate import Accelerator
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from gnvc_vd.backbone.dit import keep_in_float32
from gnvc_vd.conventions import UsageError
from gnvc_vd.learned.refine.adaptor import LORA
from gnvc_vd.train.ema import scatter_into
from gnvc_vd.train.settings import Model
from gnvc_vd.train.setup import AnyStage, dit_of, kept_type
from gnvc_vd.train.stages.vae_stage import VaeStage


def shard(stage: AnyStage, accelerator: Accelerator, replicas: int = 1) -> nn.Module:
    """Divide the transformer in place; returns the stage as all processes train it together, on their devices.

    Args:
        replicas: groups of processes that each hold a whole transformer.
    """
    processes = accelerator.num_processes
    if processes == 1:
        raise UsageError("run.shard divides a transformer over processes, and there is one")
    if processes % replicas or processes == replicas:
        raise UsageError(
            f"run.replicas={replicas} does not make equal groups of two or more of {processes} processes: it is the "
            "number of machines, or 1"
        )
    if isinstance(stage, VaeStage):
        raise UsageError("run.shard divides a transformer over processes, and a VAE has none")
    dit = dit_of(stage)
    # The backbone's own shares the refiner's parameters, and would keep them whole.
    stage.backbone.dit, stage.backbone.load_dit = dit, lambda: dit
    _divide(dit.model, stage.settings.model, accelerator, replicas)
    for tensor in chain(stage.parameters(), stage.buffers()):
        if not isinstance(tensor, DTensor):
            tensor.data = tensor.data.to(accelerator.device)
    # Accelerate would refuse DDP around a part; so it gives autocast alone.
    module: nn.Module = accelerator.prepare_model(stage, device_placement=False, evaluation_mode=True)
    divided = [name for name, parameter in module.named_parameters() if isinstance(parameter, DTensor)]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, divided)
    return DistributedDataParallel(module, **accelerator.ddp_handler.to_kwargs())


def is_divided(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter of the transformer is: what its linear maps and convolutions multiply with."""
    return name.endswith(".weight") and parameter.ndim > 1 and not keep_in_float32(name) and LORA not in name


def _divide(model: nn.Module, settings: Model, accelerator: Accelerator, replicas: int) -> None:
    """Divide block by block. Of a matrix that is mapped to a file, a process reads the rows that it keeps."""
    shape = (replicas, accelerator.num_processes // replicas)
    mesh = init_device_mesh(accelerator.device.type, shape, mesh_dim_names=("replicas", "parts"))
    mesh = mesh["parts"] if replicas == 1 else mesh
    half = torch.bfloat16 if accelerator.mixed_precision == "bf16" else None
    policy = MixedPrecisionPolicy(half, reduce_dtype=torch.float32, cast_forward_inputs=False)  # autocast casts those
    # FSDP fears that someone writes into what a block returned, a view; nobody does.
    warnings.filterwarnings("ignore", r"FSDP2-wrapped module .* returned a view tensor")
    kinds = {parameter: kept_type(name, settings) for name, parameter in model.named_parameters()}
    whole = {parameter for name, parameter in model.named_parameters() if not is_divided(name, parameter)}
    divided = kinds.keys() - whole
    for parameter in whole:
        parameter.data = parameter.data.to(accelerator.device, kinds[parameter], copy=True)
    blocks = [block for name, block in model.named_modules() if name.rpartition(".")[0] in ("blocks", "vace_blocks")]
    for part in [*blocks, model]:  # divided again behind every use, so that whoever looks finds the parts
        stored = {name: one.data for name, one in part.named_parameters() if one in divided}
        for name, value in stored.items():
            one = part.get_parameter(name)  # pages that nobody writes take no memory
            one.data = torch.empty(value.shape, dtype=kinds[one], device=accelerator.device)
        fully_shard(part, mesh=mesh, reshard_after_forward=True, mp_policy=policy, ignored_params=whole)
        for name, value in stored.items():
            scatter_into(part.get_parameter(name), value)
