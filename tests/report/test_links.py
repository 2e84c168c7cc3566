"""What a page links to, and what it says of where it comes from."""

from pathlib import Path

import pytest

from gnvc_vd.baselines.hybrid import Hybrid
from gnvc_vd.common import provenance
from gnvc_vd.evaluate.evaluation import CodecEntry, OwnCodec
from gnvc_vd.report import links
from gnvc_vd.report.links import CARD, Link, cards, commit_links, paper_links
from tests.evaluate.evaluations import point

CODECS = {
    "x265": CodecEntry(hybrid=Hybrid("x265", (0,))),
    "gvc": CodecEntry(ours=OwnCodec((8,), "gvc")),
    "new": CodecEntry(ours=OwnCodec((0,), model="tiny")),
    "old": CodecEntry(ours=OwnCodec((0,), model="tiny-contextual")),
    "random": CodecEntry(ours=OwnCodec((0,), model="nano")),
}


def test_the_papers_of_the_codecs_that_are_there() -> None:
    assert [one.address for one in paper_links(CODECS)] == [
        "https://arxiv.org/abs/2603.26571",
        "https://arxiv.org/abs/2512.05016",
    ]
    assert paper_links({"x265": CODECS["x265"]}) == []


def test_cards_are_the_models_own_without_their_marks() -> None:
    found = cards(CODECS)
    assert list(found) == ["tiny", "tiny-contextual"] and found["tiny"].startswith("# tiny")
    assert "<!--" not in "".join(found.values())


def test_a_codec_of_several_models_has_the_cards_of_all(tmp_path: Path) -> None:
    for name in ("low", "high"):
        (tmp_path / name).mkdir()
        (tmp_path / name / CARD).write_text(f"# {name}", encoding="utf-8")
    each = OwnCodec(models={0: f"{tmp_path}/low", 1: f"{tmp_path}/high", 2: f"{tmp_path}/low"})
    assert cards({"x265": CODECS["x265"], "each": CodecEntry(ours=each)}) == {"low": "# low", "high": "# high"}


@pytest.mark.parametrize(
    ("origin", "address"),
    [
        ("https://example.org/us/codec.git", "https://example.org/us/codec"),
        ("https://someone:secret@example.org/us/codec", "https://example.org/us/codec"),
        ("git@example.org:us/codec.git", "https://example.org/us/codec"),
        ("ssh://git@example.org/us/codec.git", "https://example.org/us/codec"),
        ("/srv/codec", ""),
        ("../codec.git", ""),
        ("", ""),
    ],
)
def test_a_commit_is_read_where_the_repository_is_and_no_secret_or_folder_shows(
    monkeypatch: pytest.MonkeyPatch, origin: str, address: str
) -> None:
    monkeypatch.setattr(provenance, "_git", lambda *_: origin)
    provenance.web_address.cache_clear()
    monkeypatch.setattr(links, "web_address", provenance.web_address)
    points = [point("x", "a", level, 1.0) for level in range(3)]
    for one, made in zip(points, ("a" * 40, "a" * 40, ""), strict=True):
        one.environment["commit"] = made
    wanted = f"{address}/commit/{'a' * 40}" if address else "#made"
    assert commit_links(points) == [Link("commit aaaaaaaaa", wanted)]
    provenance.web_address.cache_clear()
