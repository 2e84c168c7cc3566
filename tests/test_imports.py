"""Imports run one way (docs/architecture.md), and the package costs nothing until it is used."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

import gnvc_vd

PACKAGE = Path(gnvc_vd.__file__).parent
LAYERS = [  # top to bottom; a module may import its own layer and those below
    {"cli", "cli_gvc", "transcode", "__main__"},
    {"train", "evaluate"},
    {"baselines"},
    {"codec", "loading", "zeroshot"},
    {"bottleneck", "refine"},
    {"entropy", "backbone", "metrics", "data"},
    {"info", "model", "parameters", "playback", "scenes", "bitstream", "gop", "video"},
    {"ffmpeg", "files", "foreign", "interruption", "strict", "noise", "presets", "compat", "conventions", "__init__"},
]
STRANGERS = [{"bottleneck", "zeroshot"}]  # never import one another
ENGINE = {"accelerate", "hydra", "wandb"}  # known to train and evaluate only
DIFFUSERS_HOMES = {"backbone", "refine"}


def layer_of(room: str) -> int:
    return next(index for index, rooms in enumerate(LAYERS) if room in rooms)


def imported_names(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def violations(room: str, names: set[str]) -> list[str]:
    """What `room` imports and must not."""
    wrong = []
    for name in sorted(names):
        parts = name.split(".")
        if parts[0] == "gnvc_vd":
            other = parts[1] if any(parts[1] in rooms for rooms in LAYERS) else "__init__"
            if layer_of(other) < layer_of(room) or any({room, other} == pair for pair in STRANGERS):
                wrong.append(f"{room} imports {name}")
        elif (parts[0] in ENGINE and room not in {"train", "evaluate"}) or (
            parts[0] == "diffusers" and room not in DIFFUSERS_HOMES
        ):
            wrong.append(f"{room} imports {name}")
    return wrong


def test_imports_run_one_way() -> None:
    files = list(PACKAGE.rglob("*.py"))
    assert len(files) > 10
    assert [line for path in files for line in violations(room_of(path), imported_names(path))] == []


def test_the_check_sees_a_wrong_direction() -> None:
    assert violations("gop", {"gnvc_vd.cli.main"}) == ["gop imports gnvc_vd.cli.main"]
    assert violations("bottleneck", {"gnvc_vd.zeroshot.codec"}) == ["bottleneck imports gnvc_vd.zeroshot.codec"]
    assert violations("codec", {"wandb"}) == ["codec imports wandb"]
    assert violations("video", {"gnvc_vd.conventions.Frame", "numpy"}) == []


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import gnvc_vd, sys; print(*sorted({'torch', 'numpy', 'av', 'argparse'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_an_encoder_loads_nothing_that_it_does_not_ask() -> None:
    heavy = {"diffusers", "transformers", "compressai"}
    code = f"import gnvc_vd, sys; gnvc_vd.load(); print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_public_names_resolve_when_used() -> None:
    assert all(getattr(gnvc_vd, name) is not None for name in gnvc_vd.__all__)
    assert set(gnvc_vd.__all__) <= set(dir(gnvc_vd))
    assert not hasattr(gnvc_vd, "no_such_name")


def test_help_is_instant() -> None:
    """0.5 s is the promise; best of five, so that a busy machine does not decide."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "gnvc_vd", "--help"], capture_output=True, check=True)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.5


@pytest.mark.slow
def test_compat_lets_what_needs_torchvision_import() -> None:
    code = "import gnvc_vd.compat, torchvision, lpips, compressai; print(compressai.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "1.2.8", done.stderr[-500:]
