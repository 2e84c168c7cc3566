"""What the measures need, fetched through the real downloaders from folders in the place of servers."""

import hashlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from torchvision import models
from torchvision.models import optical_flow

from gnvc_vd.metrics import weight_files
from tests.codecs.test_hub import Hub
from tests.conftest import Script

KINDS = {"AlexNet_Weights": "IMAGENET1K_V1", "VGG16_Weights": "IMAGENET1K_V1", "Raft_Large_Weights": "C_T_SKHT_V2"}


def test_files_are_called_as_torchvision_calls_them() -> None:
    addresses = [getattr(getattr(models, kind), KINDS[kind]).url for kind in list(KINDS)[:2]]
    addresses.append(optical_flow.Raft_Large_Weights.C_T_SKHT_V2.url)
    names = [address.rpartition("/")[2] for address in addresses]
    assert names == [weight_files.ALEXNET, weight_files.VGG16, weight_files.RAFT_LARGE]
    assert [weight_files.digest_of(name) for name in names] == ["7be5be79", "397923af", "ff5fadd5"]


def name_addresses(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """These files are what torchvision's kinds of weights are fetched from."""
    for kind, path in files.items():
        module = optical_flow if kind.startswith("Raft") else models
        monkeypatch.setattr(module, kind, SimpleNamespace(**{KINDS[kind]: SimpleNamespace(url=path.as_uri())}))


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Torchvision's files and the hub's, small: what the script would download, by name."""
    files, folder = {}, tmp_path / "server"
    folder.mkdir()
    for kind in KINDS:
        data = kind.encode()
        files[kind] = folder / f"{kind}-{hashlib.sha256(data).hexdigest()[:8]}.pth"
        files[kind].write_bytes(data)
    name_addresses(files, monkeypatch)
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub.snapshot_download)
    networks = {}
    for metric, network in weight_files.NETWORKS.items():
        repository = hub.root / network.repository / network.revision
        repository.mkdir(parents=True)
        for file in (*weight_files.HUB_FILES, "pytorch_model.bin"):
            (repository / file).write_text(f"{file} of {metric}")
        digest = hashlib.sha256((repository / "model.safetensors").read_bytes()).hexdigest()
        networks[metric], files[metric] = replace(network, sha256=digest), repository / "model.safetensors"
    monkeypatch.setattr(weight_files, "NETWORKS", networks)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("GNVC_VD_WEIGHTS", str(tmp_path / "weights"))
    return files


def test_all_networks_are_fetched_to_where_measures_look_for_them(
    servers: dict[str, Path], script: Script, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert script("fetch_weights.py", "metrics") == 0
    lines = capsys.readouterr().out.splitlines()
    found = {Path(line.partition("  sha256 ")[0]): line.partition("  sha256 ")[2] for line in lines}
    assert len(found) == 5
    for path, digest in found.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    for kind in KINDS:
        weight_files.check_digest(weight_files.in_torch_home(servers[kind].name))
    assert not list((tmp_path / "weights").rglob("*.bin"))
    servers["VGG16_Weights"].unlink()  # it is there: nothing is fetched again
    assert script("fetch_weights.py", "metrics") == 0
    assert script("fetch_weights.py") == 0
    assert "openai/clip-vit-large-patch14@32bd6428" in capsys.readouterr().out


def test_another_file_under_the_name_is_refused_in_a_sentence(
    servers: dict[str, Path], script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    servers["VGG16_Weights"].write_bytes(b"something else")
    assert script("fetch_weights.py", "metrics") == 1
    said = capsys.readouterr().err
    last = said.splitlines()[-1]
    assert last.startswith("fetch_weights: VGG16_Weights-") and "invalid hash value" in last and "Traceback" not in said
    servers["VGG16_Weights"].write_bytes(b"VGG16_Weights")
    servers["clip_f"].write_text("another network")
    assert script("fetch_weights.py", "metrics") == 1
    assert "model.safetensors is not openai/clip-vit-large-patch14's: its sha256 is another" in capsys.readouterr().err
