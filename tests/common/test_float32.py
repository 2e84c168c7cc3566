"""What torch may do to float32 products is off inside, and as it was afterwards, whatever it was."""

from collections.abc import Callable, Iterator

import pytest
import torch

from gnvc_vd.common.float32 import full_float32
from gnvc_vd.learned.bottleneck.kinds import bottleneck_of
from gnvc_vd.presets import BottleneckKind, preset

CPU, BACKENDS = torch.device("cpu"), torch.backends
PARTS = (BACKENDS, BACKENDS.cuda.matmul, BACKENDS.cudnn, BACKENDS.cudnn.conv, BACKENDS.cudnn.rnn)
PARTS += (BACKENDS.mkldnn, BACKENDS.mkldnn.matmul, BACKENDS.mkldnn.conv, BACKENDS.mkldnn.rnn)


def said(setting: Callable[[], object]) -> object:
    try:
        return setting()
    except RuntimeError:
        return "mixed"


def everything() -> list[object]:
    older = (
        torch.get_float32_matmul_precision,
        lambda: BACKENDS.cuda.matmul.allow_tf32,
        lambda: BACKENDS.cudnn.allow_tf32,
    )
    return [*(part.fp32_precision for part in PARTS), *map(said, older)]


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    before = everything()
    yield
    BACKENDS.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    BACKENDS.cudnn.allow_tf32 = True
    for part, precision in zip(PARTS, before, strict=False):
        part.fp32_precision = precision
    assert everything() == before


def matmul_high() -> None:
    BACKENDS.cuda.matmul.allow_tf32 = True


def products_medium() -> None:
    torch.set_float32_matmul_precision("medium")


def cudnn_off() -> None:
    BACKENDS.cudnn.allow_tf32 = False


def all_tf32() -> None:
    BACKENDS.fp32_precision = "tf32"


def new_matmul() -> None:
    BACKENDS.cuda.matmul.fp32_precision = "tf32"


def new_convolution() -> None:
    BACKENDS.cudnn.conv.fp32_precision = "ieee"


def half_on_a_cpu() -> None:
    BACKENDS.mkldnn.fp32_precision = "bf16"


SETTINGS = [lambda: None, matmul_high, products_medium, cudnn_off, all_tf32, new_matmul, new_convolution, half_on_a_cpu]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda one: one.__name__)
def test_tf32_is_off_inside_and_as_it_was_afterwards(setting: Callable[[], None]) -> None:
    setting()
    before = everything()
    with pytest.raises(KeyError), full_float32(CPU):  # also after an error
        assert torch.get_float32_matmul_precision() == "highest"
        assert not BACKENDS.cuda.matmul.allow_tf32 and not BACKENDS.cudnn.allow_tf32
        parts = [part.fp32_precision for part in PARTS if part not in (BACKENDS, BACKENDS.cudnn, BACKENDS.mkldnn)]
        assert parts == ["ieee"] * 6
        raise KeyError
    assert everything() == before


def test_autocast_is_off_inside() -> None:
    x = torch.full((2, 2), 1 + 2**-12)
    with torch.autocast("cpu", torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with full_float32(CPU):
            assert (x @ x).dtype == torch.float32


@pytest.mark.parametrize("kind", ["contextual", "transform"])
def test_a_latent_codec_computes_in_full_float32_whatever_is_set(kind: BottleneckKind) -> None:
    """Training, encoding and decoding alike: its convolutions look at what is set when they run."""
    torch.manual_seed(0)
    codec = bottleneck_of(preset("nano").bottleneck(kind))
    latents, quality = torch.randn(1, 16, 3, 4, 4), [40] * 3
    codec.measure(latents, 0.02, 2.0)
    seen = set[tuple[object, ...]]()

    def note(*_: object) -> None:
        seen.add((said(torch.get_float32_matmul_precision), said(lambda: BACKENDS.cudnn.allow_tf32)))

    for module in codec.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(note)
    products_medium()
    before = everything()
    codec(latents, torch.tensor([quality]))
    codec.freeze()
    codec.eval().requires_grad_(False)
    payloads, decoded = codec.compress(latents, quality)
    found = codec.decompress([one.data for one in payloads], [one.symbol_hash for one in payloads], (4, 4), quality)
    for mine, theirs in zip(found, decoded, strict=True):  # a decoder's caller computes in between
        assert torch.equal(mine.latent, theirs.latent) and everything() == before
    assert seen == {("highest", False)}
