"""Links of a page: the codecs' papers, the models' cards, and the commit that made the points."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gnvc_vd.backbone.sources import model_folder
from gnvc_vd.codecs.load import DEFAULT_MODEL
from gnvc_vd.common.provenance import web_address
from gnvc_vd.evaluate.evaluation import CodecEntry
from gnvc_vd.evaluate.points import Point

PAPERS = {
    "gnvc-vd": ("GNVC-VD paper", "https://arxiv.org/abs/2512.05016"),
    "gvc": ("GVC paper", "https://arxiv.org/abs/2603.26571"),
}
CARD = "MODEL_CARD.md"
COMMENT = re.compile(r"^<!--.*?-->\n", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Link:
    text: str
    address: str  # of a page elsewhere, or #PLACE in this one


def paper_links(codecs: Mapping[str, CodecEntry]) -> list[Link]:
    named = dict.fromkeys(one.ours.codec for one in codecs.values() if one.ours)
    return [Link(*PAPERS[name]) for name in named]


def cards(codecs: Mapping[str, CodecEntry]) -> dict[str, str]:
    """The text of each model's card, where it has one: a page that is sent away has no folder to look it up in."""
    ours = [one.ours for one in codecs.values() if one.ours]
    models = dict.fromkeys(one.model_at(level) or DEFAULT_MODEL for one in ours for level in one.levels)
    paths = {model: model_folder(model) / CARD for model in models}
    return {
        path.parent.name: COMMENT.sub("", path.read_text(encoding="utf-8")) for path in paths.values() if path.is_file()
    }


def commit_links(points: Sequence[Point]) -> list[Link]:
    """Each commit, in its repository where that is known, else where the page says what the points were made with."""
    home = web_address()
    made = dict.fromkeys(one.environment.get("commit", "") for one in points)
    return [Link(f"commit {one[:9]}", f"{home}/commit/{one}" if home else "#made") for one in made if one]
