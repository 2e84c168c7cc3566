"""The wheel: all package data is in it, and it codes and shows the demo outside the checkout."""

import os
import re
import shutil
import site
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

import gnvc_vd

CHECKOUT = Path(gnvc_vd.__file__).parents[1]
MADE = shutil.ignore_patterns("__pycache__")
SMALLER_DEMO = """
from pathlib import Path
from gnvc_vd.report import demo
demo.FRAMES, demo.QUALITIES, demo.MODES, demo.METRICS = 9, (48, 63), (), ("psnr_rgb",)
print(demo.demo(Path("demo"), None, "cpu")[1])
"""


def test_the_version_is_the_same_wherever_it_is_stated() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    cited = re.search(r"^version: (.+)$", (CHECKOUT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    changes = (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = next(name for name in re.findall(r"^## \[(.+?)\]", changes, re.MULTILINE) if name != "Unreleased")
    assert cited is not None
    assert {project["version"], cited[1], newest} == {gnvc_vd.__version__}


@pytest.mark.slow
def test_a_wheel_codes_and_shows_the_demo_outside_the_checkout(tmp_path: Path) -> None:
    wheel = built(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    shipped = {
        path.relative_to(CHECKOUT).as_posix()
        for path in (CHECKOUT / "gnvc_vd").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in held if ".dist-info/" not in name} == shipped
    assert {"gnvc_vd/py.typed", "gnvc_vd/assets/tiny/codec.safetensors", "gnvc_vd/assets/clips/bunny.mp4"} <= shipped
    programs = installed(wheel, tmp_path / "venv")
    work = tmp_path / "work"
    work.mkdir()

    def run(program: str, *arguments: object) -> str:
        alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        command = [str(programs / program), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=work, env=alone, timeout=600, check=False)
        assert done.returncode == 0, done.stderr[-1000:]
        return done.stdout.strip()

    place = Path(run("python", "-c", "import gnvc_vd; print(gnvc_vd.__file__)"))
    assert place.is_relative_to(tmp_path / "venv")
    assert run("gnvc-vd", "--version") == f"gnvc-vd {gnvc_vd.__version__}"
    run("gnvc-vd", "encode", place.parent / "assets" / "clips" / "bunny.mp4", "bunny.gnvc", "--frames", 9)
    assert run("gnvc-vd", "verify", "bunny.gnvc") == "1 GOP read, all whole"
    run("gnvc-vd", "decode", "bunny.gnvc", "frames")
    assert len(list((work / "frames").glob("*.png"))) == 9
    assert (work / run("python", "-c", SMALLER_DEMO)).is_file()


def built(folder: Path) -> Path:
    """From a copy, so that nothing is made in the checkout, with the build tools that are installed here."""
    copy = folder / "copy"
    shutil.copytree(CHECKOUT / "gnvc_vd", copy / "gnvc_vd", ignore=MADE)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, copy / name)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder)]
    pip("wheel", *options, str(copy))
    (wheel,) = folder.glob("gnvc_vd-*.whl")
    assert wheel.name.startswith(f"gnvc_vd-{gnvc_vd.__version__}-py3-none-any")
    return wheel


def installed(wheel: Path, venv: Path) -> Path:
    """Into a fresh environment that sees the packages of this one; gives the folder of its programs."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    programs = venv / "bin"
    pip("--python", str(programs / "python"), "install", "--no-deps", "--no-index", str(wheel))
    (own,) = venv.glob("lib/python*/site-packages")
    (own / "packages.pth").write_text("\n".join({sysconfig.get_path("purelib"), *site.getsitepackages()}))
    return programs


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1000:]
