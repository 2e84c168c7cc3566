"""scripts/export.py --onnx: the files give what torch gives, at other sizes than they were traced at."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import gnvc_vd
from gnvc_vd.backbone.streaming import frames_of_latents
from tests.conftest import Script

CHECKOUT = Path(__file__).parents[2]
EXPORT = (sys.executable, CHECKOUT / "scripts/export.py")


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx") / "tiny"
    subprocess.run([*EXPORT, "tiny", folder, "--onnx"], check=True, capture_output=True)
    return folder


@pytest.mark.slow
def test_the_example_decodes_latents_to_the_frames_that_torch_gives(exported: Path, tmp_path: Path) -> None:
    latents = random(1, 16, 4, 10, 6, seed=1)
    np.save(tmp_path / "latents.npy", latents.numpy())
    example = [CHECKOUT / "examples/decode_onnx.py", exported, tmp_path / "latents.npy", tmp_path / "frames.npy"]
    done = subprocess.run([sys.executable, *example], check=True, capture_output=True, text=True)
    wanted = np.concatenate(list(frames_of_latents(gnvc_vd.load("tiny").backbone.vae, latents)))
    frames = np.load(tmp_path / "frames.npy")
    assert done.stdout == "13 frames\n" and frames.shape == wanted.shape == (13, 80, 48, 3)
    apart = np.abs(frames.astype(int) - wanted)
    assert apart.max() <= 1 and np.count_nonzero(apart) < apart.size // 1000  # a rounding at the edge of a level


@pytest.mark.slow
def test_the_refiner_takes_the_step_that_torch_takes(exported: Path) -> None:
    codec = gnvc_vd.load("tiny")
    window, noise = random(1, 16, 7, 16, 10, seed=2), random(1, 16, 7, 16, 10, seed=3)
    features = random(1, codec.bottleneck.preset.features, 7, 16, 10, seed=4)
    session = onnxruntime.InferenceSession(exported / "refiner.onnx")
    for sigma_0 in (0.1, 0.3):
        given = {"decoded": window, "features": features, "noise": noise, "sigma_0": torch.tensor([sigma_0])}
        (refined,) = session.run(None, {name: value.numpy() for name, value in given.items()})
        with torch.inference_mode():
            wanted = codec.refiner(window, features, noise, sigma_0, 1).numpy()
        assert np.abs(refined - wanted).max() < 1e-4 < np.abs(wanted - window.numpy()).max()


def test_what_cannot_be_exported_is_said_in_a_sentence(
    script: Script, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert script("export.py", "nano", tmp_path / "out", "--onnx") == 2
    assert "for a light VAE only" in capsys.readouterr().err
    assert script("export.py", "nothing", tmp_path / "out", "--onnx") == 1
    assert "nothing: no such preset or folder" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert script("export.py", "tiny", tmp_path / "out", "--onnx") == 1
    assert "onnxscript missing: pip install 'gnvc-vd[onnx]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    monkeypatch.delitem(sys.modules, "onnxscript")
    (tmp_path / "mine.txt").write_text("kept")
    assert script("export.py", "tiny", tmp_path, "--onnx") == 2
    assert "mine.txt is no ONNX file" in capsys.readouterr().err and (tmp_path / "mine.txt").exists()
