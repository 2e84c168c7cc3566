"""Wrong calls and files: refused early, in one sentence, and nothing is lost."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gnvc_vd.cli.values import rate
from tests.bitstream.streams import packed, units
from tests.codecs.test_transcode import beside_a_clip as beside_a_clip
from tests.codecs.test_transcode import here, refused
from tests.conftest import names_beside

SCRIPTS = sorted((Path(__file__).parents[2] / "scripts").glob("*.py"))


def linked(how: str, source: Path) -> Path:
    """Another name for a file."""
    other = source.with_name(f"other{source.suffix}")
    if how == "symlink":
        other.symlink_to(source)
    else:
        os.link(source, other)
    return other


@pytest.mark.parametrize("how", ["itself", "symlink", "hardlink"])
@pytest.mark.parametrize("command", ["encode", "decode"])
@pytest.mark.usefixtures("beside_a_clip")
def test_no_output_replaces_its_input(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, command: str, how: str
) -> None:
    source = tmp_path / "clip"  # no suffix, so that nothing else is wrong with the name
    source.write_bytes((tmp_path / "in.y4m").read_bytes() if command == "encode" else packed(units(1)))
    before, target = source.read_bytes(), source if how == "itself" else linked(how, source)
    code, _, messages = here(capfd, command, source, target)
    assert code == 2 and "is the input itself" in messages
    assert source.read_bytes() == target.read_bytes() == before


@pytest.mark.parametrize("name", ["out.mkv", "OUT.MP4", "out.y4m"])
@pytest.mark.usefixtures("beside_a_clip")
def test_a_stream_is_not_named_like_a_video(capfd: pytest.CaptureFixture[str], name: str) -> None:
    refused(capfd, ["encode", "in.y4m", name], 2, "a video's suffix")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["encode", "missing.mp4", "o.gnvc"], "missing.mp4: no such file or folder"),
        (["decode", "missing.gnvc", "o.mkv"], "missing.gnvc: No such file"),
        (["verify", "missing.gnvc"], "missing.gnvc: No such file"),
        (["info", "missing.gnvc"], "missing.gnvc: No such file"),
        (["compare", "missing.mp4", "other.mp4"], "missing.mp4: no such file or folder"),
    ],
)
def test_a_missing_input_is_said_before_torch_is_imported(arguments: list[str], sentence: str) -> None:
    code = f"import sys; from gnvc_vd.cli.main import main; print(main({arguments}), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1 False\n" and sentence in done.stderr


@pytest.mark.parametrize("codec", ["gnvc-vd", "gvc"])
def test_a_video_is_opened_before_a_model_is_loaded(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, codec: str
) -> None:
    (tmp_path / "in.mp4").write_bytes(b"no video")
    code, _, messages = here(capfd, "encode", tmp_path / "in.mp4", tmp_path / "o.gnvc", "--codec", codec)
    assert code == 1 and "not a video that can be read" in messages and "mean nothing" not in messages


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--quality", "x"], "'x' is not a whole number"),
        (["--frames", "x"], "'x' is not a whole number"),
        (["--frames", "0"], "0 is not positive"),
        (["--frames", "9" * 20], "the number is too large"),
        (["--frames", "9" * 19], "the number is too large"),
        (["--bpp", "x"], "'x' is not a number"),
        (["--bpp", "nan"], "nan is not a positive number"),
        (["--fps", "abc"], "'abc' is not a frame rate"),
        (["--fps", "1e999999999"], "is not a frame rate"),
        (["--size", "3"], "'3' is not WxH"),
        (["--device", "gpu"], "'gpu' is not a device"),
        (["--target-size", "1", "--bpp", "1"], "not allowed with"),
    ],
)
@pytest.mark.usefixtures("beside_a_clip")
def test_an_option_that_means_nothing_is_refused_in_one_line(
    capfd: pytest.CaptureFixture[str], options: list[str], sentence: str
) -> None:
    arguments = ["encode", "in.y4m", "o.gnvc", *options]
    refused(capfd, arguments, 2, sentence)
    assert here(capfd, *arguments)[2].count("\n") == 1


def test_rates_are_read_as_they_are_spelled() -> None:
    assert [str(rate(text)) for text in ("25", "29.97", "30000/1001", "12.5")] == ["25", *2 * ["30000/1001"], "25/2"]


def test_a_full_standard_output_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.gnvc"
    path.write_bytes(packed(units(2)))
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "gnvc_vd", "info", str(path)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr.decode()) == (1, "gnvc-vd: standard output: No space left on device\n")


@pytest.mark.usefixtures("beside_a_clip")
def test_a_full_disk_is_named_by_the_file(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Here a file may not grow: the system says so in the same place as of a full disk."""
    assert here(capfd, "encode", "in.y4m", "a.gnvc")[0] == 0
    command = f"ulimit -f 0; exec {sys.executable} -m gnvc_vd decode a.gnvc o.yuv --model nano --steps 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert done.returncode == 1 and done.stderr.decode().endswith(f"cannot write {tmp_path}/o.yuv: File too large\n")
    assert names_beside(tmp_path) == ["a.gnvc", "in.y4m"]


def test_programs_let_idle_threads_sleep_and_the_library_says_nothing_of_them() -> None:
    def policy(code: str, **environment: str) -> str:
        code = f"import os, sys\n{code}\nprint(os.environ.get('OMP_WAIT_POLICY'), 'torch' in sys.modules)"
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "KMP_", "GOMP_"))}
        done = subprocess.run([sys.executable, "-c", code], env=clean | environment, capture_output=True, check=True)
        return done.stdout.decode().splitlines()[-1]

    program = "from gnvc_vd.cli.main import main\ntry: main(['--version'])\nexcept SystemExit: pass"
    assert policy(program) == "PASSIVE False"
    assert policy(program, OMP_WAIT_POLICY="ACTIVE") == "ACTIVE False"
    assert policy(program, GOMP_SPINCOUNT="7") == "None False"
    assert policy("import gnvc_vd; gnvc_vd.load_backbone") == "None True"


@pytest.mark.parametrize(
    "script", sorted((Path(__file__).parents[2] / "scripts").glob("*.py")), ids=lambda one: one.stem
)
def test_every_script_says_so_before_torch_is_imported(script: Path) -> None:
    imports = [
        node
        for node in ast.parse(script.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    modules = [node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports]
    before = {name.split(".")[0] for name in modules[: modules.index("gnvc_vd.common.sleeping_threads")]}
    assert before <= sys.stdlib_module_names
