"""`gnvc-vd compare … --html DIR`: the report's player, loupe, flicker view and figures for any videos.

    REF, TESTs ──copies for browsers──▶ in DIR/index.html, or in DIR/index_files where it cannot hold them

The figures are those of the videos themselves.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tqdm import tqdm

from gnvc_vd import __version__
from gnvc_vd.baselines.commands import Clip
from gnvc_vd.common.files import replacing, write_text
from gnvc_vd.common.provenance import commit, web_address
from gnvc_vd.conventions import UsageError
from gnvc_vd.evaluate.compare import METRICS, Comparison
from gnvc_vd.evaluate.sequences import SHOWN, write_player_copy
from gnvc_vd.report import player
from gnvc_vd.report.links import Link
from gnvc_vd.report.markup import asset, document, section, table_html
from gnvc_vd.report.page import metrics_data
from gnvc_vd.report.player import SOURCE, embed_videos
from gnvc_vd.report.plots import colour_of
from gnvc_vd.report.tables import Table, three_digits
from gnvc_vd.video import RawVideo, open_video
from gnvc_vd.video.reader import is_raw

BESIDE = "index_files"  # the folder beside the page


def write_side_by_side(
    reference: str, found: Mapping[str, Comparison], folder: str, raw: RawVideo | None = None
) -> Path:
    """The page of these comparisons, by their videos; its path."""
    home = Path(folder)
    if not found:
        raise UsageError("a page takes a video to compare")
    with open_video(reference, raw if is_raw(reference) else None) as video:
        rate = video.info.rate
    first = next(iter(found.values()))
    clip = Clip(first.width, first.height, min(one.frames for one in found.values()), rate, SHOWN)
    names = _distinct([reference, *found])
    data = _data(names, found, clip)
    keys = [f"{SOURCE}/", *(f"{place}//0" for place in range(len(found)))]  # as the player asks for them
    home.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=home) as made:
        copies = {key: Path(made) / f"{place}.mp4" for place, key in enumerate(keys)}
        pairs = zip([reference, *found], copies.values(), strict=True)
        for source, target in tqdm(pairs, total=len(copies), unit="video", desc="copying for the page", disable=None):
            write_player_copy(Path(source), clip, target, raw if is_raw(source) else None)
        if sum(path.stat().st_size for path in copies.values()) <= player.MAX_VIDEO_BYTES:
            data["videos"] = embed_videos(copies)
        else:
            data["files"] = {key: f"{BESIDE}/{path.name}" for key, path in copies.items()}
            with replacing(home / BESIDE) as part:
                part.mkdir()
                for path in copies.values():
                    path.rename(part / path.name)
    table = section("tables", "Figures", table_html(_figures(names[1:], found)))
    home_page, made_by = web_address(), commit()
    links = [Link(f"commit {made_by[:9]}", f"{home_page}/commit/{made_by}")] if home_page and made_by else []
    title = f"{' and '.join(names[1:])} against {names[0]}"
    parts = [asset("player.html"), table]
    write_text(home / "index.html", document(title, _about(clip, made_by), links, parts, data))
    return home / "index.html"


def _distinct(paths: Sequence[str]) -> list[str]:
    """File names, each with as many of its folders as tell it from the others."""

    def tail(path: str, parts: int) -> str:
        return "/".join(Path(path).parts[-parts:])

    def name(path: str) -> str:
        others = [one for one in paths if one != path]
        lengths = range(1, len(Path(path).parts) + 1)
        return next((tail(path, n) for n in lengths if tail(path, n) not in [tail(o, n) for o in others]), path)

    return [name(path) for path in paths]


def _data(names: Sequence[str], found: Mapping[str, Comparison], clip: Clip) -> dict[str, Any]:
    """As a report has it, with one sequence that has no name and no rates."""
    metrics = [name for name in METRICS if any(one.figures[name] is not None for one in found.values())]
    tests = [str(place) for place in range(len(found))]
    return {
        "metrics": metrics_data(metrics),
        "codecs": [
            {"name": test, "label": label, "kind": "test", "colour": colour_of(int(test))}
            for test, label in zip(tests, names[1:], strict=True)
        ],
        "rows": [
            {"codec": test, "sequence": "", "level": 0, "bpp": None, "kbps": None, "figures": one.figures}
            for test, one in zip(tests, found.values(), strict=True)
        ],
        "rates": [""],
        "clips": {"": {"width": clip.width, "height": clip.height, "frames": clip.frames, "rate": float(clip.rate)}},
        "shown": {"": {test: {"0": 0} for test in tests}},
        "opening": {"sequence": "", "rate": 0, "left": SOURCE if len(tests) == 1 else "0", "right": tests[:2][-1]},
        "source": names[0],
    }


def _figures(names: Sequence[str], found: Mapping[str, Comparison]) -> Table:
    """A line for each measure that ran; below, why the others did not, and what was noticed."""
    every = list(found.values())
    lines, notes = [], dict[str, list[str]]()
    for key, metric in METRICS.items():
        values = [one.figures[key] for one in every]
        if any(value is not None for value in values):
            better = "lower" if metric.lower_is_better else "higher"
            lines.append((metric.label, *map(three_digits, values), better))
        for reason in dict.fromkeys(one.missing[key] for one in every if key in one.missing):
            if reason != "not asked for":
                notes.setdefault(reason.replace(str(Path.home()), "~"), []).append(metric.label)
    missing = [f"{', '.join(labels)}: {reason}" for reason, labels in notes.items()]
    notices = dict.fromkeys(notice for one in every for notice in one.notices)
    viewing = next((f"ColorVideoVDP: {one.viewing}" for one in every if one.figures["cvvdp"] is not None), None)
    said = (*([viewing] if viewing else []), *missing, *notices)
    title = f"Means over {' and '.join(dict.fromkeys(str(one.frames) for one in every))} frames"
    return Table(title, ("measure", *names, "better"), tuple(lines), said)


def _about(clip: Clip, made_by: str) -> str:
    rate, commit_of = f"{round(float(clip.rate), 3):g}", f", commit {made_by[:9]}" if made_by else ""
    return (
        f"{clip.frames} frames of {clip.width} × {clip.height}, {rate} a second. Figures are of the videos themselves; "
        f"what plays here are copies (x264, CRF 12, BT.709), alike for all. Made by gnvc-vd {__version__}{commit_of}."
    )
