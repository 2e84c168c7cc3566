"""torch.compile for a transformer's blocks and for a VAE decoder's step: what trains, decodes or is measured compiled.

Every shape, and every layout of what a step remembers, is compiled anew at its first call; of one function torch keeps
eight variants, and runs others as they are. Kernels of several operations at once round otherwise than one by one.
"""

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import torch
from torch import nn

from gnvc_vd.conventions import GnvcError

if TYPE_CHECKING:
    from gnvc_vd.backbone.dit import WanDit
    from gnvc_vd.backbone.streaming import VideoVae

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """The function compiled, and one sentence where torch finds no compiler (on a CPU g++, on a GPU Triton and gcc)."""
    quick = torch.compile(function, dynamic=False)
    from torch._dynamo.exc import TorchDynamoException  # the compiler is imported now

    @wraps(function)
    def call(*arguments: P.args, **named: P.kwargs) -> R:
        try:
            return quick(*arguments, **named)
        except TorchDynamoException as error:
            reason = str(error).strip().partition("\n")[0]
            raise GnvcError(f"torch cannot compile here, so leave compiling out: {reason}") from error

    return call


def compile_dit(dit: "WanDit") -> None:
    """Compile the blocks of a decoder's transformer."""
    compile_blocks(dit.model)
    dit.compiled = True


def compile_blocks(model: Any) -> None:
    """Compile each block of Wan's transformer, and of a branch; equal blocks share what is compiled.

    Only `forward` is compiled, not the hooks that gather a sharded block's parameters.
    """
    for block in (*model.blocks, *getattr(model, "vace_blocks", ())):
        block.forward = compiled(block.forward)


def compile_decoder(vae: "VideoVae") -> None:
    """Compile the decoder's step, which takes one latent, or a tile of it."""
    decoder: nn.Module = vae.model.get_submodule("decoder")
    step = "step" if hasattr(decoder, "step") else "forward"  # light, or Wan's
    setattr(decoder, step, compiled(getattr(decoder, step)))
    vae.compiled = True
