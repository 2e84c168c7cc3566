"""What a page's HTML must keep: nothing from elsewhere, a name for whatever is seen, titles in order."""

from html.parser import HTMLParser

NAMED = ("svg", "canvas", "video", "img")  # what only eyes understand


class Page(HTMLParser):
    """Every element's attributes by its tag, and the text of links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.links: dict[str, str] = {}  # text → address
        self._address: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "a":
            self._address = dict(attrs).get("href")

    def handle_data(self, data: str) -> None:
        if self._address is not None:
            self.links[data] = self._address
            self._address = None

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def ids(self) -> list[str]:
        return [name for _, attributes in self.elements if (name := attributes.get("id"))]


def check_stands_alone(text: str) -> Page:
    """No resource from elsewhere, a name for every picture and field, no id twice, links within that lead somewhere."""
    page = Page(text)
    for tag, attributes in page.elements:
        outside = [key for key in ("src", "srcset", "poster", "data", "action", "background") if attributes.get(key)]
        assert not outside, (tag, attributes)
        if tag != "a":
            assert not attributes.get("href") or str(attributes["href"]).startswith("data:"), (tag, attributes)
        if tag in NAMED:
            assert attributes.get("aria-label") or attributes.get("alt"), (tag, attributes)
    styles = text.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in styles and "@import" not in styles
    assert len(page.ids) == len(set(page.ids)), "an id twice"
    for text_of, address in page.links.items():
        assert address.startswith("https://") or address[1:] in page.ids, (text_of, address)
    return page
