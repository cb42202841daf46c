"""A page read back: its elements, and what a browser would do with them."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "input"}


@dataclass(eq=False)
class Element:
    """A tag with what it holds."""

    tag: str
    attributes: dict[str, str | None]
    parent: "Element | None" = None
    inside: "list[Element | str]" = field(default_factory=list)

    @property
    def classes(self):
        return (self.attributes.get("class") or "").split()

    @property
    def text(self):
        return "".join(part if isinstance(part, str) else part.text for part in self.inside)

    @property
    def children(self):
        return [part for part in self.inside if isinstance(part, Element)]

    def all(self):
        for child in self.children:
            yield child
            yield from child.all()

    def find(self, word):
        """All of a tag, or of a class with a dot."""
        return [one for one in self.all() if one.tag == word or (word[0] == "." and word[1:] in one.classes)]


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.root = self.here = Element("root", {})

    def handle_starttag(self, tag, attrs):
        element = Element(tag, dict(attrs), self.here)
        assert len(element.attributes) == len(attrs), f"attributes twice in <{tag}>"
        self.here.inside.append(element)
        if tag not in VOID:
            self.here = element

    def handle_endtag(self, tag):
        assert tag == self.here.tag, f"</{tag}> ends <{self.here.tag}>"
        self.here = self.here.parent

    def handle_data(self, data):
        self.here.inside.append(data)

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")


def read_page(page):
    """The root of a page whose tags nest as they should."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.here is reader.root
    return reader.root


def highlighted(figure):
    """The blocks that the sheet of style frames while one points at an image."""
    block = figure.parent
    assert "see" in block.classes
    beside = block.parent.children
    return beside[beside.index(block) :]
