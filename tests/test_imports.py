"""Imports run one way (docs/architecture.md), and the package costs nothing until it is used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gnvc_vd

PACKAGE = Path(gnvc_vd.__file__).parent
CHECKOUT = PACKAGE.parent
LAYERS = [  # top to bottom; a folder imports itself and the layers below, never a neighbour on its own layer
    {"cli", "scripts", "lab"},
    {"report", "bench"},
    {"evaluate"},
    {"train"},
    {"baselines"},
    {"codecs"},
    {"learned", "zeroshot"},
    {"data"},
    {"backbone"},
    {"entropy", "metrics"},
    {"bitstream"},
    {"video"},
    {"common"},
    {"presets"},
    {"conventions"},
]
ENGINE = {"accelerate", "hydra", "omegaconf", "wandb"}  # known to these folders alone
ENGINE_FOLDERS = {"train", "evaluate", "report", "scripts", "lab"}
DIFFUSERS_FOLDERS = {"backbone", "learned"}
FACE = {"__init__", "__main__"}  # the package's own names, resolved when they are used
OUTSIDE = {"scripts", "lab", "examples", "tests"}  # beside the package


def files_by_folder() -> dict[Path, str]:
    folders = {path: path.relative_to(PACKAGE).with_suffix("").parts[0] for path in PACKAGE.rglob("*.py")}
    outside = [path for name in ("scripts", "lab") for path in (CHECKOUT / name).rglob("*.py")]
    return folders | {path: path.relative_to(CHECKOUT).parts[0] for path in outside}


def imported_names(source: str) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def layer_of(folder: str) -> int:
    """The tests stand above all: they import anything, and nothing imports them."""
    return next((layer for layer, folders in enumerate(LAYERS) if folder in folders), -1)


def room_named(name: str) -> str | None:
    """The folder that an imported name lies in, also through the package's face; None for other people's."""
    top, _, rest = name.partition(".")
    if top in OUTSIDE:
        return top
    if top != "gnvc_vd" or rest in ("", "__version__"):
        return None
    folder = rest.partition(".")[0]
    return gnvc_vd.PUBLIC.get(folder, name).split(".")[1]


def violations(folder: str, names: set[str]) -> list[str]:
    """What `folder` imports and must not."""
    wrong = []
    for name in sorted(names):
        top, other = name.split(".")[0], room_named(name)
        against = other is not None and other != folder and layer_of(other) <= layer_of(folder)
        engine = top in ENGINE and folder not in ENGINE_FOLDERS
        face = name == "gnvc_vd" and folder not in LAYERS[0]  # would hide which folder is meant
        if against or engine or face or (top == "diffusers" and folder not in DIFFUSERS_FOLDERS):
            wrong.append(f"{folder} imports {name}")
    return wrong


def test_every_room_has_a_floor_and_nothing_lies_loose() -> None:
    folders = set(files_by_folder().values()) - FACE
    assert folders == set.union(*LAYERS)
    assert {path.name for path in PACKAGE.glob("*.py")} == {
        "__init__.py",
        "__main__.py",
        "conventions.py",
        "presets.py",
    }


def test_imports_run_one_way() -> None:
    wrong = [
        f"{path.relative_to(CHECKOUT)}: {line}"
        for path, folder in files_by_folder().items()
        if folder not in FACE
        for line in violations(folder, imported_names(path.read_text(encoding="utf-8")))
    ]
    assert wrong == []


def test_no_two_files_have_one_name() -> None:
    names = [path.name for path in PACKAGE.rglob("*.py") if path.stem not in FACE]
    assert sorted(name for name in names if names.count(name) > 1) == ["codec.py", "codec.py"]  # the two siblings


@pytest.mark.parametrize(
    ("folder", "line"),
    [
        ("bitstream", "from gnvc_vd.cli.main import main"),
        ("learned", "from gnvc_vd.zeroshot.codec import Gvc"),
        ("zeroshot", "import gnvc_vd.learned.codec"),
        ("entropy", "from gnvc_vd.metrics import fidelity"),
        ("train", "from gnvc_vd.evaluate.run import evaluate"),
        ("conventions", "from gnvc_vd.presets import preset"),
        ("codecs", "import wandb"),
        ("zeroshot", "from diffusers import WanTransformer3DModel"),
        ("report", "from lab.computed import compute"),
        ("codecs", "import scripts.train"),
        ("report", "from examples.rd_curve import evaluation"),
        ("cli", "from tests.conftest import smooth_clip"),
        ("video", "from gnvc_vd import load"),
        ("video", "import gnvc_vd"),
    ],
)
def test_the_check_sees_a_wrong_direction(folder: str, line: str) -> None:
    (name,) = imported_names(line)
    assert violations(folder, {name}) == [f"{folder} imports {name}"]


def test_the_check_lets_the_right_direction_pass() -> None:
    assert violations("video", {"gnvc_vd.conventions.Frame", "numpy", "gnvc_vd.video.colour"}) == []
    assert violations("cli", {"gnvc_vd", "gnvc_vd.__version__", "gnvc_vd.load", "gnvc_vd.train.loop"}) == []


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


def test_help_imports_nothing_heavy() -> None:
    """What makes it instant; seconds would measure what else the machine does."""
    code = (
        "import sys, gnvc_vd.cli.main as cli\ntry: cli.main(['--help'])\nexcept SystemExit: print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "argparse" in loaded and not loaded & {
        "torch",
        "av",
        "diffusers",
        "transformers",
        "compressai",
        "tqdm",
        "cv2",
    }


@pytest.mark.slow
def test_compat_lets_what_needs_torchvision_import() -> None:
    code = "import gnvc_vd.common.compat, torchvision, lpips, compressai; print(compressai.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "1.2.8", done.stderr[-500:]
