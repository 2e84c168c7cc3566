"""Every example runs as its first line says (decode_onnx.py in tests/train/test_onnx.py), the notebook cell by cell."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest

import gnvc_vd
from gnvc_vd.bitstream.stream import Reader, Unit
from gnvc_vd.metrics.fidelity import psnr
from gnvc_vd.video import open_video

CHECKOUT = Path(__file__).parents[2]
EXAMPLES = CHECKOUT / "examples"
BUNNY = Path(gnvc_vd.__file__).parent / "assets" / "clips" / "bunny.mp4"
LONGEST = 40  # lines of an example


def example(name: str, *arguments: object, expected: int = 0) -> "subprocess.CompletedProcess[str]":
    """A script in a process of its own."""
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == expected, done.stderr[-1000:]
    return done


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine frames of a shipped clip."""
    path = tmp_path_factory.mktemp("films") / "film.mp4"
    with open_video(BUNNY) as video, gnvc_vd.create_video(path, 320, 180, video.info.rate) as out:
        for _, frame in zip(range(9), video, strict=False):
            out.write(frame)
    return path


def test_examples_are_short_and_their_page_links_them() -> None:
    page = (CHECKOUT / "docs" / "examples.md").read_text(encoding="utf-8")
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert [path.name for path in scripts] == ["decode_onnx.py", "encode_decode.py", "rd_curve.py", "target_rate.py"]
    for path in scripts:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= LONGEST, path.name
        assert f"python examples/{path.name} " in text.partition('"""\n')[0]
    assert all(f"](../examples/{path.name})" in page for path in [*scripts, EXAMPLES / "first_steps.ipynb"])


def test_encode_decode_writes_a_stream_and_the_frames_that_it_holds(film: Path, tmp_path: Path) -> None:
    stream, decoded = tmp_path / "film.gnvc", tmp_path / "decoded.mkv"
    done = example("encode_decode.py", film, stream, decoded, "--quality", 40)
    assert f"{stream.stat().st_size} bytes coded" in done.stdout
    assert "encoding: 100%" in done.stderr and "decoding: 100%" in done.stderr
    with stream.open("rb") as file:
        assert [part.quality for part in Reader(file) if isinstance(part, Unit)] == [40]
    frames, original = (np.stack(list(open_video(path))) for path in (decoded, film))
    assert psnr(original, frames) > 24
    expected = np.concatenate(list(gnvc_vd.load().decode(stream.read_bytes())))
    assert np.abs(expected.astype(int) - frames).mean() < 3  # the video file is 4:2:0


@pytest.mark.slow
def test_target_rate_comes_near_what_is_asked_for_and_more_is_better(film: Path) -> None:
    rows = [line.split() for line in example("target_rate.py", film, 0.03, 0.06).stdout.splitlines()]
    assert rows[0] == ["wanted", "bpp", "quality", "cvvdp", "vmaf", "psnr_rgb"]
    low, high = ([float(cell) for cell in row] for row in rows[1:])
    for wanted, bpp, *_ in (low, high):
        assert bpp == pytest.approx(wanted, rel=0.1)
    assert all(more > less for less, more in zip(low, high, strict=True))


@pytest.mark.slow
def test_rd_curve_draws_a_curve_of_each_codec(film: Path, tmp_path: Path) -> None:
    done = example("rd_curve.py", film.parent, tmp_path / "out", "--frames", 9)
    report = tmp_path / "out" / "report"
    assert done.stdout.strip() == str(report / "index.html") and (report / "index.html").is_file()
    for metric in ("cvvdp", "vmaf", "psnr_rgb"):
        assert (report / f"{metric}.png").read_bytes().startswith(b"\x89PNG")
    points = [json.loads(path.read_text()) for path in (tmp_path / "out" / "points").rglob("*.json")]
    for codec, levels in (("gnvc-vd", [27, 39, 51, 63]), ("x265", [51, 46, 41, 36])):
        curve = sorted((point["bpp"], point["level"]) for point in points if point["codec"] == codec)
        assert [level for _, level in curve] == levels
    with (report / "bd.csv").open(encoding="utf-8", newline="") as file:
        found = {row["metric"]: row["bd_rate_percent"] for row in csv.DictReader(file)}
    assert abs(float(found["psnr_rgb"])) < 100  # levels at which both codecs' curves overlap


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    notebook = json.loads((EXAMPLES / "first_steps.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    names: dict[str, object] = {}
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "outputs change with the machine"
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)  # noqa: S102
    curve = names["curve"]
    assert isinstance(curve, list)
    low, middle, high = sorted(curve)  # of rate and PSNR
    assert low[0] < middle[0] and (middle[0], high[0]) == pytest.approx((0.02, 0.04), rel=0.1)
    assert 20 < low[1] < middle[1] < high[1]
    said = capsys.readouterr().out
    assert "refused: GOP 1 is damaged" in said or "refused: damage at byte" in said
    assert "50 frames, of which the first 25 are equal" in said
    assert not list(tmp_path.iterdir())
