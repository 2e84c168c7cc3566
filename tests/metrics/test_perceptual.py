"""LPIPS, ST-LPIPS and DISTS against their own packages, on the same weights; and as losses."""

import hashlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from gnvc_vd.conventions import GnvcError
from gnvc_vd.metrics import UnavailableError
from gnvc_vd.metrics import weight_files as weights
from gnvc_vd.metrics.perceptual import Dists, LearnedDistance, check_size, dists, lpips, st_lpips

Loss = LearnedDistance | Dists


def pictures(batch: int = 2, height: int = 64, width: int = 48, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    x = torch.rand(batch, 3, height, width, generator=rng) * 2 - 1
    return x, (x + 0.3 * torch.randn(x.shape, generator=rng)).clamp(-1, 1)


@pytest.fixture(scope="session")
def trunk_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files like torchvision's, with seeded random convolutions, each under a name that tells its sha256."""
    from torchvision.models import alexnet, vgg16

    folder = tmp_path_factory.mktemp("torch") / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    files = {}
    for name, build in (("alexnet-owt", alexnet), ("vgg16", vgg16)):
        torch.manual_seed(7)
        with torch.device("meta"):
            features = build(weights=None).features
        features = features.to_empty(device="cpu")
        for module in features:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.normal_(module.bias, std=0.1)
        part = folder / "part"
        torch.save({f"features.{key}": value for key, value in features.state_dict().items()}, part)
        digest = hashlib.sha256(part.read_bytes()).hexdigest()
        files[name] = part.rename(folder / f"{name}-{digest[:8]}.pth")
    return files


@pytest.fixture
def torch_home(monkeypatch: pytest.MonkeyPatch, trunk_files: dict[str, Path]) -> dict[str, Path]:
    monkeypatch.setenv("TORCH_HOME", str(trunk_files["vgg16"].parents[2]))
    monkeypatch.setattr("gnvc_vd.metrics.perceptual.ALEXNET", trunk_files["alexnet-owt"].name)
    monkeypatch.setattr("gnvc_vd.metrics.perceptual.VGG16", trunk_files["vgg16"].name)
    return trunk_files


def as_torchvision_would(path: Path) -> Callable[..., SimpleNamespace]:
    """torchvision's constructor of the trunk in the file, without the classifier that takes most of its time."""
    from torchvision.models import alexnet, vgg16

    with torch.device("meta"):
        features = (vgg16 if "vgg" in path.name else alexnet)(weights=None).features
    features.load_state_dict(
        {key.removeprefix("features."): value for key, value in torch.load(path, weights_only=True).items()},
        assign=True,
    )
    return lambda pretrained: SimpleNamespace(features=features)


@pytest.mark.parametrize(("net", "file"), [("alex", "alexnet-owt"), ("vgg", "vgg16")])
def test_lpips_is_the_packages(
    net: str, file: str, monkeypatch: pytest.MonkeyPatch, torch_home: dict[str, Path]
) -> None:
    import lpips as package

    trunk = as_torchvision_would(torch_home[file])
    monkeypatch.setattr(package.pretrained_networks.tv, "alexnet" if net == "alex" else "vgg16", trunk)
    reference = package.LPIPS(net=net, verbose=False)
    x, y = pictures()
    found = lpips(net)(x, y)  # type: ignore[arg-type]
    assert found.shape == (2,) and float(found.min()) > 0.01
    torch.testing.assert_close(found, reference(x, y).flatten(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_st_lpips_is_the_packages(net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, used in (("torchsummary", "summary"), ("IPython", "embed")):  # what the package imports and never uses
        stand_in = ModuleType(name)
        setattr(stand_in, used, None)
        monkeypatch.setitem(sys.modules, name, stand_in)
    from stlpips_pytorch import models_lpf, stlpips

    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda _: None)  # a classifier that is never used
    monkeypatch.setattr(models_lpf.vgg.VGG, "_initialize_weights", lambda _: None)

    reference = stlpips.LPIPS(net=net, variant="shift_tolerant", verbose=False)
    x, y = pictures(height=51, width=64)  # odd sizes are where padding shows
    found = st_lpips(net)(x, y)  # type: ignore[arg-type]
    assert float(found.min()) > 1e-3
    torch.testing.assert_close(found, reference(x, y).flatten(), rtol=1e-4, atol=1e-7)


def test_dists_is_the_packages(monkeypatch: pytest.MonkeyPatch, torch_home: dict[str, Path]) -> None:
    from DISTS_pytorch import DISTS_pt

    monkeypatch.setattr(DISTS_pt.models, "vgg16", as_torchvision_would(torch_home["vgg16"]))
    reference = DISTS_pt.DISTS(load_weights=False)
    packaged = weights.from_package("DISTS_pytorch", "weights.pt")
    reference.alpha.data, reference.beta.data = packaged["alpha"], packaged["beta"]
    x, y = pictures(height=50, width=67)
    found = dists()(x, y)
    assert float(found.min()) > 0.01
    torch.testing.assert_close(found, reference((x + 1) / 2, (y + 1) / 2), rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(
    not all(weights.in_torch_home(name).is_file() for name in (weights.ALEXNET, weights.VGG16)),
    reason="torchvision's AlexNet and VGG16 are not here: python scripts/fetch_weights.py metrics",
)
def test_with_torchvisions_trunks_figures_are_the_packages_own() -> None:
    """The packages load the same files themselves; nothing of theirs is replaced."""
    import lpips as package
    from DISTS_pytorch import DISTS

    for seed in range(3):
        x, y = pictures(height=112, width=96, seed=seed)
        for net in ("alex", "vgg"):
            reference = package.LPIPS(net=net, verbose=False)(x, y).flatten()
            torch.testing.assert_close(lpips(net)(x, y), reference, rtol=1e-4, atol=1e-6)  # type: ignore[arg-type]
        torch.testing.assert_close(dists()(x, y), DISTS()((x + 1) / 2, (y + 1) / 2), rtol=1e-4, atol=1e-5)


@pytest.fixture(params=["lpips alex", "lpips vgg", "st_lpips alex", "st_lpips vgg", "dists"])
def loss(request: pytest.FixtureRequest, torch_home: dict[str, Path]) -> Loss:
    kind, _, net = request.param.partition(" ")
    builders: dict[str, Callable[[], Loss]] = {
        "lpips": lambda: lpips(net),
        "st_lpips": lambda: st_lpips(net),
        "dists": dists,
    }
    return builders[kind]()


def test_a_clip_is_the_mean_of_its_frames_and_batches_do_not_mix(loss: Loss) -> None:
    x, y = (torch.stack(pictures(2, 40, 32, seed)) for seed in (1, 2))  # 2 B 3 H W each
    clips = [torch.stack([a, b], dim=2) for a, b in zip(x, y, strict=True)]  # original and test, B 3 T H W
    found = loss(clips[0], clips[1])
    frames = [[float(loss(clips[0][b : b + 1, :, t], clips[1][b : b + 1, :, t])) for t in (0, 1)] for b in (0, 1)]
    assert frames[0][0] != pytest.approx(frames[0][1], rel=1e-3)
    torch.testing.assert_close(found, torch.tensor(frames).mean(1), rtol=1e-4, atol=1e-6)
    assert float(loss(x[0], x[0]).abs().max()) < 1e-5
    with pytest.raises(ValueError, match="two B 3 H W"):
        loss(x[0], x[0][:1])


def test_as_a_loss_it_leads_the_picture_and_leaves_the_network(loss: Loss) -> None:
    x, y = pictures(1, 40, 32)
    y.requires_grad_()
    value = loss(y, x).sum()
    value.backward()
    assert y.grad is not None and all(parameter.grad is None for parameter in loss.parameters())
    assert not any(parameter.requires_grad for parameter in loss.parameters()) and not loss.training
    step = 0.02 * y.grad / y.grad.norm()
    with torch.no_grad():
        change = float(loss(y - step, x).sum() - loss(y + step, x).sum())
    assert change == pytest.approx(-2 * 0.02 * float(y.grad.norm()), rel=0.1)


@pytest.mark.parametrize("level", [-1.0, 0.0])
def test_gradients_are_finite_on_flat_and_equal_pictures(loss: Loss, level: float) -> None:
    """Also where all of a pixel's features are 0, and a length's slope is not defined."""
    with torch.no_grad():
        for module in loss.trunk.stages[0]:
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                module.bias -= 100
    x = torch.full((1, 3, 32, 32), level, requires_grad=True)
    loss(x, torch.full((1, 3, 32, 32), level)).sum().backward()
    assert x.grad is not None and bool(x.grad.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_pictures_of_any_float_type_are_measured_in_single(loss: Loss, dtype: torch.dtype) -> None:
    x, y = (z.to(dtype) for z in pictures(1, 32, 32))
    found = loss(x, y)
    assert found.dtype == torch.float32 and torch.equal(found, loss(x.float(), y.float()))


def test_missing_weights_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for build, name in ((lambda: lpips("alex"), weights.ALEXNET), (dists, weights.VGG16)):
        with pytest.raises(UnavailableError, match=re.escape(str(tmp_path / "hub" / "checkpoints" / name))):
            build()
    with pytest.raises(UnavailableError, match="needs the package no_such_package"):
        weights.from_package("no_such_package", "x.pth")
    with pytest.raises(UnavailableError, match="lpips lacks"):
        weights.from_package("lpips", "weights/none.pth")


def test_a_file_that_is_not_what_its_name_says_is_refused(torch_home: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / weights.ALEXNET).write_bytes(torch_home["alexnet-owt"].read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(tmp_path))
        with pytest.raises(UnavailableError, match="sha256 begins with"):
            weights.from_torch_home(weights.ALEXNET)


def test_weights_of_another_network_are_refused(torch_home: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gnvc_vd.metrics.perceptual.VGG16", torch_home["alexnet-owt"].name)
    with pytest.raises(GnvcError, match="5 convolutions do not fit a trunk with 13"):
        lpips("vgg")
    from gnvc_vd.metrics.trunks import Trunk

    tensors = weights.from_torch_home(torch_home["alexnet-owt"].name)
    tensors["features.3.weight"] = tensors["features.3.weight"][:5]
    with pytest.raises(GnvcError, match=r"features.3.weight is \(5, 64, 5, 5\)"):
        Trunk("alex").load(tensors, "features")


def test_small_pictures_are_refused_and_the_smallest_works(loss: Loss) -> None:
    with pytest.raises(UnavailableError, match="at least 32 pixels each way, not 40×31"):
        check_size(40, 31)
    check_size(32, 32)
    assert float(loss(*pictures(1, 32, 32))) > 0
