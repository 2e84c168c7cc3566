"""One file decodes to the same integers, whatever surrounds it; of both kinds of latent codec."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gnvc_vd.bitstream import BitstreamError
from gnvc_vd.conventions import GnvcError
from gnvc_vd.entropy.integer import IntegerConv
from gnvc_vd.learned.bottleneck.base import Bottleneck, Payload
from gnvc_vd.learned.bottleneck.kinds import bottleneck_of
from gnvc_vd.learned.bottleneck.networks import LATENT_REACH, DecodedLatent
from gnvc_vd.learned.bottleneck.policies import qualities
from gnvc_vd.learned.bottleneck.schema import coded_identity
from gnvc_vd.presets import PRESETS, BottleneckKind
from tests.learned.bottleneck.models import from_generator, latents, spread, trained_like

SIZES = [(1, 2, 2), (2, 2, 10), (3, 18, 6), (5, 6, 14)]  # latents, height, width
KINDS: tuple[BottleneckKind, ...] = get_args(BottleneckKind)
MODELS: dict[str, Callable[[], Bottleneck]] = {
    f"{kind} {name}": partial(make, kind=kind, **options)
    for kind in KINDS
    for name, make, options in (
        ("random", from_generator, {}),
        ("trained-like", trained_like, {}),
        ("saturated", from_generator, {"saturated": True}),
    )
}


class Waits(TorchDispatchMode):
    """How often a value is asked for that Python goes on by; a GPU would have to be waited for."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aten = torch.ops.aten
        waits = (aten.item, aten.is_nonzero, aten._local_scalar_dense, aten.nonzero, aten.equal, aten.masked_select)
        self.count += func.overloadpacket in waits
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", KINDS)
def test_a_device_is_waited_for_no_more_often_in_a_longer_gop(
    kind: BottleneckKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the transfers of each stage, and layers' bounds on sums, which only a CPU asks for."""
    monkeypatch.setattr(IntegerConv, "largest_sum", lambda self: 0)
    model, found = from_generator(kind=kind), []
    for count in (2, 2, 7):  # the first fills what is kept for a size
        with Waits() as waits:
            (payload,), _ = model.compress(torch.randn(1, 16, count, 4, 6), [30] * count)
            decode(model, [payload], (4, 6), [30] * count)
        found.append(waits.count)
    assert found[0] > found[1] == found[2] <= 4


@pytest.mark.parametrize("kind", KINDS)
def test_gains_know_when_they_are_frozen(kind: BottleneckKind) -> None:
    torch.manual_seed(0)
    model = bottleneck_of(PRESETS["nano"].bottleneck(kind)).eval()
    gains: Any = next(module for module in model.modules() if hasattr(module, "gain_integers"))
    assert not gains.frozen
    empty = copy.deepcopy(model.state_dict())
    with torch.inference_mode():
        model.freeze()
        assert gains.frozen
    assert gains.frozen and copy.deepcopy(gains).frozen and not gains.train().frozen
    model.eval().load_state_dict(empty)
    assert not gains.frozen
    gains.gain_integers = torch.ones_like(gains.gain_integers)
    assert gains.frozen


def decode(
    model: Bottleneck, payloads: list[Payload], size: tuple[int, int], quality: list[int]
) -> list[DecodedLatent]:
    return list(model.decompress([p.data for p in payloads], [p.symbol_hash for p in payloads], size, quality))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("count", "height", "width"), SIZES)
def test_integers_come_back(name: str, count: int, height: int, width: int) -> None:
    model = MODELS[name]()
    quality = spread(model, 7 * count, count)
    payloads, shown = model.compress(3 * latents(2, count, height, width), quality)
    decoded = decode(model, payloads, (height, width), quality)  # the symbol hash is the proof
    torch.testing.assert_close(decoded, shown, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", MODELS)
def test_nothing_around_the_integers_changes_them(name: str) -> None:
    """Threads, batch, autocast, oneDNN, bfloat16 weights: every way decodes what one way coded."""
    model, quality, size = MODELS[name](), [40] * 3, (6, 10)
    payloads, _ = model.compress(latents(3, 3, *size), quality)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            decode(model, payloads, size, quality)  # three at once
            for one in payloads:
                decode(model, [one], size, quality)
    finally:
        torch.set_num_threads(threads)
    with torch.autocast("cpu", torch.bfloat16):
        decode(model, payloads, size, quality)
    with torch.backends.mkldnn.flags(enabled=False):
        decode(model, payloads, size, quality)
    decode(model.to(torch.bfloat16), payloads, size, quality)
    again, _ = model.compress(latents(1, 3, *size), quality)
    decode(model, again, size, quality)


DECODER = """
import json, sys, torch
torch.set_num_threads(int(sys.argv[1]))
from gnvc_vd.learned.bottleneck.schema import coded_identity
from tests.learned.bottleneck.models import from_generator
job = json.load(sys.stdin)
model = from_generator(kind=sys.argv[3])
if sys.argv[2] == "bfloat16":
    model.to(torch.bfloat16)
out = model.decompress([bytes.fromhex(job["payload"])], [bytes.fromhex(job["hash"])], job["size"], job["quality"])
print(len(list(out)), coded_identity(model).hex())
"""


@pytest.mark.parametrize(("threads", "dtype"), [(1, "float32"), (2, "bfloat16")])
@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_process_decodes_the_same(threads: int, dtype: str, kind: BottleneckKind) -> None:
    model = from_generator(kind=kind)
    quality = [10, 63, 0, 30] if kind == "contextual" else [20] * 4
    (payload,), _ = model.compress(latents(1, 4, 10, 6), quality)
    job = {"payload": payload.data.hex(), "hash": payload.symbol_hash.hex(), "size": [10, 6], "quality": quality}
    done = subprocess.run(
        [sys.executable, "-c", DECODER, str(threads), dtype, kind],
        input=json.dumps(job),
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["4", coded_identity(model).hex()], done.stderr[-800:]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_decodes_what_a_cpu_coded_and_the_other_way_round(kind: BottleneckKind) -> None:
    model, quality, size = from_generator(kind=kind), [40] * 3, (6, 10)
    payloads, _ = model.compress(latents(2, 3, *size), quality)
    decode(model.cuda(), payloads, size, quality)
    payloads, _ = model.compress(latents(2, 3, *size).cuda(), quality)
    decode(model.cpu(), payloads, size, quality)


@pytest.mark.parametrize("scale", [1e4, 1e12, float("inf"), float("nan")])
@pytest.mark.parametrize("kind", KINDS)
def test_no_latent_is_too_far_out(scale: float, kind: BottleneckKind) -> None:
    model, quality = trained_like(kind=kind), [63] * 2
    payloads, _ = model.compress(scale * latents(1, 2, 4, 4), quality)
    decode(model, payloads, (4, 4), quality)


@pytest.mark.parametrize("quality", range(64))
@pytest.mark.parametrize("kind", KINDS)
def test_estimated_bits_are_the_payload_s(quality: int, kind: BottleneckKind) -> None:
    model, clip = trained_like(kind=kind), latents(2, 3, 12, 12)
    payloads, _ = model.compress(clip, [quality] * 3)
    with torch.inference_mode():
        estimated = model(clip, torch.full((2, 3), quality)).bits.sum(1)
    for payload, bits in zip(payloads, estimated.tolist(), strict=True):
        assert abs(8 * len(payload.data) - bits) < 0.01 * bits + 8 * 32
        assert abs(payload.estimated_bits - bits) < 0.02 * bits + 16  # frozen against fake-quantised


@pytest.mark.parametrize("kind", KINDS)
def test_thrift_saves_bits_and_is_nothing_to_a_decoder(kind: BottleneckKind) -> None:
    clip, quality = latents(2, 3, 12, 12), [20] * 3
    plain, thrifty = trained_like(kind=kind), trained_like(kind=kind, thrift=1 / 15)
    assert coded_identity(plain) == coded_identity(thrifty)
    sizes = []
    for model in (plain, thrifty):
        payloads, coded = model.compress(clip, quality)
        sizes.append(sum(len(payload.data) for payload in payloads))
        decoded = decode(plain, payloads, (12, 12), quality)
        assert all(torch.equal(ours.latent, theirs.latent) for ours, theirs in zip(coded, decoded, strict=True))
        with torch.inference_mode():
            estimated = model(clip, torch.tensor([quality] * 2)).bits.sum()
        assert sum(payload.estimated_bits for payload in payloads) == pytest.approx(float(estimated), rel=0.02)
    assert sizes[1] < 0.98 * sizes[0]


@pytest.mark.parametrize("kind", KINDS)
def test_another_model_is_another_identity_and_cannot_read(kind: BottleneckKind) -> None:
    make = partial(from_generator, kind=kind)
    model, other = make(0), make(1)
    assert len({coded_identity(one) for one in (model, other, trained_like(kind=kind))}) == 3
    assert coded_identity(model) == coded_identity(make(0)) == coded_identity(make(0).to(torch.bfloat16))
    payloads, _ = model.compress(latents(1, 2, 4, 4), [20, 20])
    with pytest.raises(GnvcError):
        decode(other, payloads, (4, 4), [20, 20])


@pytest.mark.parametrize(
    ("kind", "name"), [("contextual", "entropy.first.2.shift"), ("transform", "higher.heads.1.2.shift")]
)
def test_one_changed_integer_changes_the_identity(kind: BottleneckKind, name: str) -> None:
    model = from_generator(kind=kind)
    before = coded_identity(model)
    model.get_buffer(name)[0] += 1
    assert coded_identity(model) != before


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_hash_or_quality_is_noticed(kind: BottleneckKind) -> None:
    model, quality = trained_like(kind=kind), [30, 30]
    (payload,), _ = model.compress(latents(1, 2, 8, 8), quality)
    with pytest.raises(BitstreamError, match="not those that were coded"):
        list(model.decompress([payload.data], [b"\0\0\0\0"], (8, 8), quality))
    with pytest.raises(GnvcError):
        list(model.decompress([payload.data], [payload.symbol_hash], (8, 8), spread(model, 31, 2)))


@pytest.mark.parametrize("kind", KINDS)
def test_an_unfrozen_model_says_so(kind: BottleneckKind) -> None:
    with pytest.raises(GnvcError, match="no integers to code with"):
        bottleneck_of(PRESETS["nano"].bottleneck(kind)).eval().compress(latents(1, 1, 2, 2), [0])


@pytest.mark.parametrize("kind", KINDS)
def test_integers_survive_saving_and_casting(tmp_path: Path, kind: BottleneckKind) -> None:
    from safetensors.torch import load_file, save_file

    model = trained_like(kind=kind)
    save_file({name: one.contiguous() for name, one in model.state_dict().items()}, tmp_path / "codec.safetensors")
    loaded = bottleneck_of(model.preset).eval()
    loaded.load_state_dict(load_file(tmp_path / "codec.safetensors"))
    assert coded_identity(loaded.to(torch.bfloat16)) == coded_identity(model)
    integers = [value for name, value in loaded.named_buffers() if name.endswith("_integers")]
    assert integers and all(not value.is_floating_point() for value in integers)


@pytest.mark.parametrize("kind", KINDS)
def test_training_reaches_every_parameter(kind: BottleneckKind) -> None:
    model = trained_like(kind=kind).train()
    out = model(latents(2, 5, 8, 8), torch.tensor([[5] * 5, [60] * 5]), rotation=2 * (kind == "transform"))
    (out.bits.mean() + out.latents.square().mean() + out.features.square().mean()).backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


def test_policies_are_offsets_within_bounds() -> None:
    assert qualities(30, 6, "constant") == [30] * 6
    assert qualities(30, 6, "hierarchical") == [36, 26, 30, 26, 34, 26]
    assert qualities(62, 6, "hierarchical") == [63, 58, 62, 58, 63, 58]
    assert qualities(0, 3, "hierarchical") == [6, 0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_is_a_stream(kind: BottleneckKind) -> None:
    """The first latent comes before the second one's symbols are looked at, or those of the second rotation."""
    model, quality = from_generator(kind=kind), [20] * 3
    rotation = 1 if kind == "transform" else 0
    (payload,), _ = model.compress(latents(1, 3, 12, 12), quality, rotation)
    broken = payload.data[: len(payload.data) * 2 // 3 // 4 * 4]
    out = model.decompress([broken], [payload.symbol_hash], (12, 12), quality, rotation)
    assert isinstance(next(out).latent, Tensor)
    with pytest.raises(GnvcError):
        list(out)


def test_the_recursion_stays_bounded_at_any_weights() -> None:
    """64 latents, the longest GOP, of a model whose blocks multiply what they are given."""
    model = trained_like()
    with torch.no_grad():
        for parameter in model.extractor.parameters():
            parameter.mul_(3)
        model.synthesis.leave.bias.fill_(1.0)  # every latent adds to the one before
    count = 64
    payloads, shown = model.compress(latents(1, count, 4, 4), [30] * count)
    assert all(one.feature.abs().max() <= 4 and one.latent.abs().max() <= LATENT_REACH for one in shown)
    assert shown[-1].latent.max() == LATENT_REACH
    decode(model, payloads, (4, 4), [30] * count)
