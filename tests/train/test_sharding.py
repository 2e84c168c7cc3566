"""A transformer divided over processes trains as a whole one does, and nothing else is divided."""

import gc
import json
import re
import shutil
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from torch import nn
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gnvc_vd.backbone.dit import build_dit, keep_in_float32
from gnvc_vd.backbone.sources import DIT_FILE, read_tensors
from gnvc_vd.backbone.weights import Options, load_backbone, random_backbone, save_backbone
from gnvc_vd.codecs.load import load
from gnvc_vd.conventions import UsageError
from gnvc_vd.presets import AdaptorPreset, preset
from gnvc_vd.train import loop
from gnvc_vd.train.checkpoint import EMA
from gnvc_vd.train.ema import Ema, own_rows, scatter_into
from gnvc_vd.train.export import export
from gnvc_vd.train.log import FIGURES, read_figures
from gnvc_vd.train.loop import Trainer, train
from gnvc_vd.train.settings import RunSettings
from gnvc_vd.train.setup import build, dit_of
from gnvc_vd.train.sharding import is_divided, shard
from gnvc_vd.train.stages.codec_stage import CodecStage
from tests.train import loading
from tests.train.runs import clips, equal, newest, tensors, torchrun, training
from tests.train.sharded import LATENT, RUNS, SEEN

PREFIX = "refiner.dit.model."
MIDDLE = "step-00000002"


def accelerator(processes: int = 2) -> Any:
    """What sharding asks of Accelerate's, on a CPU."""
    return SimpleNamespace(
        num_processes=processes,
        device=torch.device("cpu"),
        mixed_precision="no",
        prepare_model=lambda module, **_: module,
        ddp_handler=SimpleNamespace(to_kwargs=lambda: {"broadcast_buffers": False}),
    )


@contextmanager
def one_of(processes: int, rank: int = 0) -> Iterator[None]:
    """One process of several, whose others say nothing."""
    dist.init_process_group("fake", rank=rank, world_size=processes, store=FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()


@pytest.fixture
def first_of_two() -> Iterator[None]:
    with one_of(2):
        yield


@pytest.mark.usefixtures("first_of_two")
def test_a_process_holds_half_of_every_matrix_and_no_whole_one_is_left() -> None:
    stage = build(training("latent"))
    model = stage.backbone.dit.model
    sizes = {name: one.numel() for name, one in stage.named_parameters()}
    matrices = [weakref.ref(one) for name, one in model.named_parameters() if is_divided(name, one)]
    assert len(matrices) == 2 * 10 + 5  # ten in a block; embeddings of patches, time and text; the way out
    del model
    shard(stage, accelerator())
    gc.collect()
    assert all(one() is None for one in matrices)
    for name, one in stage.named_parameters():
        divided = name.startswith(PREFIX) and is_divided(name.removeprefix(PREFIX), one)
        assert isinstance(one, DTensor) == divided, name
        if isinstance(one, DTensor):
            assert 2 * one.to_local().numel() == sizes[name], name


class Reads(TorchDispatchMode):
    """How many bytes of each stored tensor are read by anything but a view of them."""

    def __init__(self, stored: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.names = {one.untyped_storage().data_ptr(): name for name, one in stored.items()}
        self.bytes = Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view and func.overloadpacket not in (torch.ops.aten.detach, torch.ops.aten.new_zeros):
            for one in tree_leaves((args, kwargs)):
                if isinstance(one, torch.Tensor) and one.untyped_storage().data_ptr() in self.names:
                    self.bytes[self.names[one.untyped_storage().data_ptr()]] += one.numel() * one.element_size()
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("layers", [(), (1,)])
def test_a_process_reads_of_the_files_what_it_keeps(
    rank: int, layers: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of matrices, once for the base and once for the adaptor that begins as copies of its blocks."""
    save_backbone(random_backbone(preset("nano")), tmp_path / "model", "saved")
    told, seen = training("latent"), {}
    model = replace(told.model, start=str(tmp_path / "model"), bfloat16=True)
    told = replace(told, model=model, adaptor=AdaptorPreset(layers), run=replace(told.run, shard=True))

    def note(files: Sequence[Path]) -> dict[str, torch.Tensor]:
        tensors = read_tensors(files)
        seen.update(tensors if files[0].name == DIT_FILE else {})
        return tensors

    monkeypatch.setattr("gnvc_vd.backbone.sources.read_tensors", note)
    _ = load_backbone(tmp_path / "model").dit  # imports, before what is counted
    with one_of(3, rank):
        reads = Reads({})
        seen.clear()
        with reads:
            backbone = load_backbone(tmp_path / "model", Options(transformer=None))
            monkeypatch.setattr("gnvc_vd.train.setup.load_backbone", lambda *_: backbone)
            _ = backbone.dit
            reads.names = Reads(seen).names
            stage = build(told)
            shard(stage, accelerator(3))
        wanted = Counter[str]()
        for name, one in seen.items():
            copied = 1 + any(name.startswith(f"blocks.{layer}.") for layer in layers)
            rows = one.chunk(3)[rank : rank + 1] if is_divided(name, cast(nn.Parameter, one)) else [one]
            wanted[name] = copied * sum(part.numel() * part.element_size() for part in rows)
        assert reads.bytes == +wanted
        for name, one in dit_of(cast(CodecStage, stage)).model.named_parameters():
            if name in seen:
                kept = seen[name] if keep_in_float32(name) else seen[name].bfloat16()
                part = kept[own_rows(one)] if isinstance(one, DTensor) else kept
                assert own(one).dtype == part.dtype and torch.equal(own(one), part), name


@pytest.mark.slow
def test_a_process_never_holds_a_whole_transformer(tmp_path: Path) -> None:
    """Of 430 MB, base in bfloat16 and adaptor in float32, a process of two had 460 MB while each loaded it whole."""
    save_backbone(random_backbone(loading.sizes()), tmp_path / "model", "saved")
    torchrun("tests.train.loading", tmp_path / "model", tmp_path / "run")
    for rank in (0, 1):
        took = json.loads((tmp_path / f"{rank}.json").read_text())
        assert took["compared"] > 200 and not took["wrong"]
        assert took["private"] < 0.7 * took["whole"], took


@pytest.mark.parametrize("rank", [3, 4, 5])  # of the second machine
def test_replicas_each_divide_a_transformer_over_their_own_processes(rank: int) -> None:
    """Two machines of three: each process has a third, and reads no other rows of what is put back."""
    stage = build(training("latent"))
    sizes = {name: one.detach().clone() for name, one in stage.named_parameters()}
    with one_of(6, rank):
        shard(stage, accelerator(6), replicas=2)
        divided = {name: one for name, one in stage.named_parameters() if isinstance(one, DTensor)}
        assert divided
        for name, one in divided.items():
            assert one.placements == (Replicate(), Shard(0)) and one.device_mesh.shape == (2, 3)
            rows = -(-len(sizes[name]) // 3)
            wanted = torch.full_like(sizes[name], torch.nan)
            mine = slice(rows * (rank % 3), rows * (rank % 3 + 1))
            wanted[mine] = sizes[name][mine] + 1
            assert torch.equal(own(scatter_into(one, wanted)), sizes[name][mine] + 1), name


def test_replicas_that_do_not_divide_the_processes_are_refused() -> None:
    for processes, replicas in ((4, 3), (4, 4), (2, 4)):
        with pytest.raises(UsageError, match=rf"run\.replicas={replicas} .*of {processes} processes"):
            shard(build(training("latent")), accelerator(processes), replicas)
    with pytest.raises(UsageError, match="at least 1: not 0"):
        RunSettings(replicas=0)


def own(one: torch.Tensor) -> torch.Tensor:
    """This process's part."""
    return (one.to_local() if isinstance(one, DTensor) else one).detach()


@pytest.mark.usefixtures("first_of_two")
def test_on_a_gpu_adamw_takes_lists_of_one_kind_of_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    """As there, a CPU now steps with lists, and one that holds sharded and whole parameters is refused by torch."""
    monkeypatch.setattr(
        import_module("torch.optim.optimizer"), "_get_foreach_kernels_supported_devices", lambda: ["cpu"]
    )
    told, stage = training("latent"), build(training("latent"))
    shard(stage, accelerator())
    ema = Ema(stage, 0.9)
    ours = loop._optimiser(ema, told, accelerator())
    before = {name: own(one).clone() for name, one in ema.live.items()}
    for one in ema.live.values():
        one.grad = torch.ones_like(one)
    with pytest.raises(RuntimeError, match=r"mixed torch\.Tensor and DTensor"):
        torch.optim.AdamW(ema.live.values()).step()
    ours.step()
    assert [{type(one) for one in group["params"]} for group in ours.param_groups] == [{nn.Parameter}, {DTensor}]
    rate, decay = told.stage.optimisation.rate, told.stage.optimisation.weight_decay
    for name, one in ema.live.items():  # the first step is the rate's, against a gradient of any size
        assert torch.allclose(own(one), (1 - rate * decay) * before[name] - rate, atol=1e-6), name


def test_nearly_all_of_a_large_transformer_is_divided() -> None:
    with torch.device("meta"):
        model = build_dit(preset("wan2.1-1.3b").dit)
    sizes = {name: one.numel() for name, one in model.named_parameters()}
    kept = sum(sizes[name] for name, one in model.named_parameters() if not is_divided(name, one))
    assert 0 < kept < 0.004 * sum(sizes.values())


def test_one_process_and_a_vae_have_nothing_to_divide() -> None:
    told = training("latent")
    with pytest.raises(UsageError, match="there is one"):
        shard(build(told), accelerator(1))
    with pytest.raises(UsageError, match="VAE has none"):
        shard(build(training("vae")), accelerator())


def test_accelerates_own_sharding_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "Accelerator", lambda **_: SimpleNamespace(distributed_type=DistributedType.FSDP))
    with pytest.raises(UsageError, match=r"run\.shard=true"):
        Trainer(training("latent"), tmp_path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each training by two processes."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("sharded")
    torchrun("tests.train.sharded", *[word for name in RUNS for word in (name, root / name)])
    return root


def stopped(run: Path, folder: Path) -> Path:
    """As a run was in its middle."""
    shutil.copytree(run / "checkpoints" / MIDDLE, folder / "checkpoints" / MIDDLE)
    return folder


# Attention to a single token is 1, whatever key and query; norm2 is the query's.
OF_ONE_TOKEN = re.compile(r"\.attn2\.(to|norm)_[qk]\.|\.norm2\.")


def assert_alike(one: Path, other: Path, rtol: float = 1e-3, atol: float = 2e-5) -> None:
    """Two checkpoints. A gradient that is only rounding, of a key's bias, is enlarged by AdamW: up to `atol`.

    Where nothing but rounding has a gradient, AdamW may take steps of the whole rate; there the gradient must be that.
    """
    wanted, found = tensors(one), tensors(other)
    assert wanted.keys() == found.keys()
    for name, value in wanted.items():
        if OF_ONE_TOKEN.search(name):
            if name.endswith("exp_avg"):
                assert max(value.abs().max(), found[name].abs().max()) < 1e-7, name
            continue
        assert torch.allclose(value, found[name], rtol=rtol, atol=atol), name
        if name.endswith("exp_avg"):
            assert (value - found[name]).abs().max() <= rtol * value.abs().max() + 1e-9, name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("whole", "sharded"), [("whole", "sharded"), ("prior", "prior-sharded"), ("prior", "prior-compiled")]
)
def test_a_divided_transformer_trains_as_a_whole_one(runs: Path, whole: str, sharded: str) -> None:
    assert_alike(newest(runs / whole), newest(runs / sharded), rtol=1e-4)
    curves = [read_figures(runs / name / FIGURES) for name in (whole, sharded)]
    assert any("validation" in name for name in curves[0][-1])
    for wanted, found in zip(*curves, strict=True):
        told = {name: value for name, value in wanted.items() if name != "clips_per_second"}
        assert {name: found[name] for name in told} == pytest.approx(told, rel=1e-5)
    assert curves[0][0]["gradient_norm"] > training("latent").stage.optimisation.clip  # so that clipping is in it


@pytest.mark.slow
def test_replicas_of_a_divided_transformer_train_as_one_whole(runs: Path, tmp_path: Path) -> None:
    """Two machines of two processes."""
    torchrun("tests.train.sharded", "replicas", tmp_path, processes=4)
    assert_alike(runs / "whole" / "checkpoints" / MIDDLE, newest(tmp_path))


@pytest.mark.slow
def test_passes_of_a_batch_are_the_batch(runs: Path) -> None:
    assert_alike(runs / "whole" / "checkpoints" / MIDDLE, newest(runs / "passes"))


@pytest.mark.slow
def test_in_bfloat16_the_latent_codec_stays_float32_and_estimates_the_same_bits(runs: Path) -> None:
    whole, sharded = (json.loads((runs / name / SEEN).read_text()) for name in ("bf16", "bf16-sharded"))
    assert whole["codec"] == sharded["codec"] == [["torch.float32"]] * 2
    first, second = zip(whole["bits"], sharded["bits"], strict=True)
    assert first[0] == first[1]
    for one, other in zip(*second, strict=True):  # gradients were added up in another order
        assert one == pytest.approx(other, rel=1e-6)
    half, vector = "torch.bfloat16", "torch.float32"
    assert sharded["blocks"] == [[half, half, vector]] * len(whole["blocks"])
    assert ["torch.float32"] * 3 in whole["blocks"]  # the adaptor's own, which autocast casts where it is whole
    assert_alike(newest(runs / "bf16"), newest(runs / "bf16-sharded"))


@pytest.mark.slow
def test_a_checkpoint_goes_on_with_any_number_of_processes(runs: Path, tmp_path: Path) -> None:
    one = train(LATENT, clips, None, tmp_path / "one")
    assert_alike(one, newest(runs / "sharded"), rtol=2e-3, atol=1e-4)
    again, two = stopped(runs / "sharded", tmp_path / "again"), stopped(tmp_path / "one", tmp_path / "two")
    torchrun("tests.train.sharded", "sharded", again, "sharded", two)
    assert equal(newest(again), newest(runs / "sharded"))
    assert_alike(one, newest(two), rtol=2e-3, atol=1e-4)
    assert_alike(one, train(LATENT, clips, None, stopped(runs / "sharded", tmp_path / "back")), rtol=2e-3, atol=1e-4)


@pytest.mark.slow
def test_a_sharded_run_is_exported_whole(runs: Path, tmp_path: Path) -> None:
    export(runs / "sharded", tmp_path / "model")
    average, adaptor = load_file(newest(runs / "sharded") / EMA), load(tmp_path / "model").refiner.adaptor()
    assert all(torch.equal(value, average[PREFIX + name]) for name, value in adaptor.items())
