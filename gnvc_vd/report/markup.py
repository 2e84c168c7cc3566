"""HTML of a page's static parts: links, folded tables, commands."""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from string import Template

from gnvc_vd.evaluate.points import Point
from gnvc_vd.evaluate.test_sets import ASSETS
from gnvc_vd.report.links import Link
from gnvc_vd.report.tables import NONE, Table, three_digits

SCRIPTS = ("figures.js", "curves.js", "player.js", "strips.js", "page.js")  # in this order
MADE_WITH = ("commit", "python", "torch", "diffusers", "compressai", "imageio-ffmpeg", "device", "processor")


def asset(name: str) -> str:
    return (ASSETS / "report" / name).read_text(encoding="utf-8")


def document(title: str, about: str, links: Sequence[Link], parts: Iterable[str], data: object) -> str:
    """The whole page: one file that asks for nothing."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", r"\u003c")  # no tag, and no comment
    return Template(asset("page.html")).substitute(
        title=escape(title),
        about=escape(about),
        links="\n".join(_link(link) for link in links),
        parts="\n".join(parts),
        style=asset("page.css"),
        script="\n".join(map(asset, SCRIPTS)),
        data=text,
    )


def _link(link: Link) -> str:
    away = "" if link.address.startswith("#") else ' rel="noreferrer"'
    return f'<a href="{escape(link.address)}"{away}>{escape(link.text)}</a>'


def section(place: str, title: str, body: str) -> str:
    return f'<section id="{place}">\n<h2>{escape(title)}</h2>\n{body}\n</section>'


def fold(summary: str, body: str, place: str = "") -> str:
    named = f' id="{escape(place)}"' if place else ""
    return f"<details{named}><summary>{escape(summary)}</summary>\n{body}\n</details>"


def table_html(table: Table) -> str:
    """A table without columns is its notes alone."""
    heads = "".join(f'<th scope="col">{escape(text)}</th>' for text in table.columns)
    lines = []
    for first, *others in table.rows:
        cells = "".join(f"<td>{escape(text)}</td>" for text in others)
        lines.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    notes = "".join(f'<p class="hint">{escape(note)}</p>\n' for note in table.notes)
    body = f"<thead><tr>{heads}</tr></thead>\n<tbody>\n" + "\n".join(lines) + "\n</tbody>"
    scroll = f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}">'
    shown = f"{scroll}<table>\n{body}\n</table></div>\n" if table.rows else ""
    return f"<h3>{escape(table.title)}</h3>\n{shown}{notes}"


def tables_html(tables: Sequence[Table]) -> str:
    """Those of no group open, then each group as a fold."""
    order = {name: place for place, name in enumerate(dict.fromkeys(["", *(one.group for one in tables)]))}
    parts = []
    for name, group in groupby(sorted(tables, key=lambda one: order[one.group]), lambda one: one.group):
        body = "\n".join(map(table_html, group))
        parts.append(fold(name, body) if name else body)
    return "\n".join(parts)


def points_html(points: Sequence[Point]) -> str:
    """How each point was made, by codec."""
    parts = []
    for codec in dict.fromkeys(one.codec for one in points):
        own = [one for one in points if one.codec == codec]
        parts.append(fold(f"{codec}: {len(own)} points", "\n".join(map(_point, own))))
    return "\n".join(parts)


def _point(one: Point) -> str:
    settings = json.dumps({"settings": one.settings, "environment": one.environment}, ensure_ascii=False)
    decode = shlex.join(one.decode) or "encoding made the pictures too"
    codes = "\n".join(f"<code>{escape(text)}</code>" for text in (shlex.join(one.encode), decode, settings))
    name = f"{one.codec}, {one.sequence}, level {one.level}: {one.bytes} bytes, {three_digits(one.bpp)} bpp, sha256 "
    return fold(f"{name}{one.stream_sha256[:16]}…", codes)


def environment_html(environments: Sequence[Mapping[str, str]]) -> str:
    """What the points were made with; several values where they differ."""
    lines = []
    for name in MADE_WITH:
        values = dict.fromkeys(one[name] for one in environments if one.get(name))
        lines.append(f"<dt>{name}</dt><dd>{escape(', '.join(values) or NONE)}</dd>")
    return f'<dl id="made">{"".join(lines)}</dl>'
