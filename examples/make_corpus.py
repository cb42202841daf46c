"""Make a small corpus of web pages, pairs and clips out of what Python's packages ship: nothing is downloaded.

    python examples/make_corpus.py OUT --pages 300 --seed 0

writes `OUT/pages` (pages of several sites, with their pictures), `OUT/pairs/00000.tar` (as img2dataset writes pairs),
`OUT/clips/00000.tar` (as WebVid's clips are kept) and `OUT/truth.json`, which says what a reader finds on each page in
which order, which pages are copies, and what is wrong with pictures. `--questions 200` keeps a fifth of the written
digits out of all of these and writes pictures of them to `OUT/questions/00000.tar`, to ask a model about. The text is
that of docstrings of the standard library and of descriptions of installed packages; some pages are in other languages,
some are copies of others. The same seed gives the same files.
"""

import argparse
import hashlib
import html
import importlib
import inspect
import io
import json
import random
import re
import sys
import tarfile
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

HOST = "https://corpus.example"
MODULES = """argparse array ast asyncio base64 bisect calendar cmd codecs collections configparser contextlib copy csv
ctypes dataclasses datetime decimal difflib dis doctest email.message enum fractions ftplib functools getpass gettext
glob gzip hashlib heapq html.parser http.client imaplib inspect io ipaddress itertools json logging lzma mailbox math
mimetypes multiprocessing operator optparse os pathlib pdb pickle platform plistlib pprint queue random re sched
selectors shelve shlex shutil smtplib socket sqlite3 ssl statistics string struct subprocess sys tarfile tempfile
textwrap threading time timeit tokenize trace traceback types unittest urllib.request uuid wave weakref xml.sax
zipfile""".split()
WORDS = "zero one two three four five six seven eight nine".split()
COLOURS = {"red": (200, 30, 40), "green": (20, 130, 60), "blue": (30, 80, 200), "violet": (120, 50, 160)}
# Sentences of our own, for what ships with Python speaks English; each language with an encoding that its pages had.
LANGUAGES = json.loads(Path(__file__).with_name("corpus_sentences.json").read_text(encoding="utf-8"))
_VANISH = dict.fromkeys(map(ord, "\u200b\ufeff\u00ad\u2060\x00\x0c"))
Block = tuple[str, Any]  # kind and what it holds: h, p, pre, ul, table or image


def plain(text: str) -> str:
    """A text whose spaces are single ones."""
    return " ".join(text.translate(_VANISH).split())


def blocks_of(text: str) -> Iterator[Block]:
    """Headings, lists, code and paragraphs of a text in Markdown, or of a docstring."""
    for part in re.split(r"\n[ \t]*\n", text.expandtabs(4)):
        lines = [line.rstrip() for line in part.strip("\n").splitlines()]
        if any(re.match(r"\s*(\||<|\[!|!\[|\.\. |```|~~~|[-=]{4,})", line) for line in lines) or not plain(part):
            continue  # badges, tables, directives and other markup
        if all(re.match(r" {4}|>>>", line) for line in lines):
            yield "pre", textwrap.dedent("\n".join(lines)).translate(_VANISH).replace("\xa0", " ").strip("\n")
        elif re.match(r"#+ ", lines[0]):
            yield "h", plain(lines[0].lstrip("#"))
        elif all(re.match(r"\s*[-*+] ", line) for line in lines):
            yield "ul", [plain(line.strip()[2:]) for line in lines]
        else:
            yield "p", plain(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", part))


def articles() -> Iterator[tuple[str, list[Block]]]:
    """Title and text of everything long enough to be a page."""
    for name in sorted({dist.metadata["Name"] for dist in metadata.distributions() if dist.metadata["Name"]}):
        described = metadata.metadata(name)
        text = described.get_payload() or described.get("Description") or ""
        table = ("table", [["Name", name], ["Version", described["Version"]]])
        blocks = [table, *blocks_of(str(text))][:20]
        if sum(len(value) for kind, value in blocks if kind == "p") > 400:
            yield f"{name}: about the package", blocks
    seen: set[str] = set()
    for module in map(importlib.import_module, MODULES):
        members = inspect.getmembers(module, lambda one: inspect.isclass(one) or inspect.isroutine(one))
        for name, value in [("", module), *members]:
            text = inspect.getdoc(value) or ""
            if len(text) > 500 and not name.startswith("_") and text not in seen:
                seen.add(text)
                yield f"{module.__name__}{name and '.'}{name}", list(blocks_of(text))[:20]


def foreign_article(language: str, draw: random.Random) -> tuple[str, list[Block]]:
    """A page in another language."""
    sentences = LANGUAGES[language]["sentences"]
    paragraphs = [" ".join(draw.sample(sentences, 4)) for _ in range(4)]
    return sentences[0], [("p", text) for text in dict.fromkeys(paragraphs)]


class Pictures:
    """Pictures of the pages, each drawn once it is needed.

    Args:
        folder: Where they are written.
        draw: Decides what they show.
        hold_out: Leave out every fifth of the written digits.
    """

    def __init__(self, folder: Path, draw: random.Random, *, hold_out: bool) -> None:
        self.folder, self.draw, self.told = folder, draw, dict[str, dict[str, Any]]()
        self.digits = load_digits()
        places = range(len(self.digits.images))
        self.places = {out: [n for n in places if (n % 5 == 0) is out or not hold_out] for out in (False, True)}
        photographs = zip(("a temple in China", "a dahlia"), load_sample_images().images, strict=True)
        self.photographs = [(name, Image.fromarray(pixels)) for name, pixels in photographs]
        if find_spec("matplotlib") is not None:
            cbook = importlib.import_module("matplotlib.cbook")
            with cbook.get_sample_data("grace_hopper.jpg", asfileobj=True) as file:
                self.photographs.append(("Grace Hopper", Image.open(file).convert("RGB")))
        folder.mkdir(parents=True)

    def next(self) -> tuple[str, str]:
        """Name and description of a picture: one in twelve is small, of one colour, broken, or one that was there."""
        number = len(self.told)
        image, caption = self.digit() if self.draw.random() < 0.5 else self.tile()
        kind = {9: "small", 21: "single_colour", 33: "broken", 45: "duplicate"}.get(number % 48, "good")
        if kind == "small":
            image = image.resize((20, 20))
        elif kind == "single_colour":
            image, caption = Image.new("RGB", (300, 200), self.draw.choice(list(COLOURS.values()))), "nothing"
        name = f"{number:05d}.{'png' if image.width < 200 else 'jpg'}"
        data = as_file(image, "PNG" if name.endswith("png") else "JPEG")
        told: dict[str, Any] = {"kind": kind, "caption": caption, "size": list(image.size)}
        if kind == "broken":
            data = data[: len(data) // 3]
        elif kind == "duplicate":
            same = self.draw.choice([one for one, what in self.told.items() if what["kind"] == "good"])
            data, told = (self.folder / same).read_bytes(), {**self.told[same], "kind": kind, "same_as": same}
            name = f"{number:05d}{Path(same).suffix}"
        (self.folder / name).write_bytes(data)
        self.told[name] = told
        return name, told["caption"]

    def digit(self, *, held_out: bool = False) -> tuple[Image.Image, str]:
        """A written digit in a colour."""
        place, colour = self.draw.choice(self.places[held_out]), self.draw.choice(list(COLOURS))
        ink = np.kron(self.digits.images[place] / 16, np.ones((16, 16)))[..., None]
        pixels = 255 * (1 - ink) + np.array(COLOURS[colour]) * ink
        return Image.fromarray(pixels.astype(np.uint8)), f"a {colour} {WORDS[self.digits.target[place]]}"

    def tile(self) -> tuple[Image.Image, str]:
        """A part of a photograph."""
        name, photograph = self.draw.choice(self.photographs)
        width, height = self.draw.randrange(220, 400), self.draw.randrange(200, 300)
        left = self.draw.randrange(photograph.width - width)
        top = self.draw.randrange(photograph.height - height)
        return photograph.crop((left, top, left + width, top + height)), f"part of {name}"


def as_file(image: Image.Image, kind: str) -> bytes:
    """The bytes of a file."""
    file = io.BytesIO()
    image.save(file, kind, quality=85)
    return file.getvalue()


def with_pictures(blocks: Sequence[Block], pictures: Pictures, draw: random.Random) -> list[Block]:
    """The same text with a few pictures between its parts."""
    found = list(blocks)
    for _ in range(draw.choice([0, 1, 1, 2, 2, 3, 5])):
        name, caption = pictures.next()
        found.insert(draw.randrange(len(found) + 1), ("image", (name, caption, draw.random() < 0.5)))
    return found


def truth_of(title: str, blocks: Sequence[Block]) -> list[dict[str, str]]:
    """Texts and pictures in the order in which people read them."""
    found: list[dict[str, str]] = [{"text": title}]
    for kind, value in blocks:
        if kind == "image":
            name, caption, has_caption = value
            found.append({"image": f"{HOST}/img/{name}", "alt": caption})
            text = f"Picture: {caption}." if has_caption else ""
        else:
            rows = value if kind == "ul" else [" ".join(row) for row in value] if kind == "table" else [value]
            text = "\n".join(rows)
        if text and "text" in found[-1]:
            found[-1]["text"] += f"\n\n{text}"
        elif text:
            found.append({"text": text})
    return found


def marked(text: str, draw: random.Random) -> str:
    """A text as HTML, with some of its words in tags that change nothing."""
    words = html.escape(text, quote=False).split(" ")
    for _ in range(len(words) // 12):
        place, tag = draw.randrange(len(words)), draw.choice(["b", "em", "code", "span", "a"])
        if "<" not in words[place]:
            words[place] = f"<{tag}{' href=#x' * (tag == 'a')}>{words[place]}</{tag}>"
    return " ".join(words) if draw.random() < 0.5 else "\n  ".join(words)


def plain_image(source: str, alt: str) -> str:
    """Of a page written by hand."""
    return f'<img src="{source}" alt="{alt}">'


def lazy_image(source: str, alt: str) -> str:
    """Of a page whose pictures are loaded by a script, with a copy for those who have none."""
    nothing = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
    return f'<img src="{nothing}" data-src="{source}" alt="{alt}"><noscript><img src="{source}" alt="{alt}"></noscript>'


def picture_element(source: str, alt: str) -> str:
    """Of a page that serves several formats."""
    return f'<picture><source type="image/avif" srcset="{source}.avif"><img src="{source}" alt="{alt}"></picture>'


def srcset_image(source: str, alt: str) -> str:
    """Of a page that serves several sizes."""
    return f'<img srcset="{source}?w=80 80w, {source} 640w" alt="{alt}" loading="lazy">'


MENU = "<a href=/>Home</a> <a href=/about>About us</a> <a href=/imprint>Imprint</a>"
LOGO = '<img src="/logo.png" alt="Logo">'
# Each site: how it writes pictures, and what stands before and after the text.
SITES: dict[str, tuple[Callable[[str, str], str], str, str]] = {
    "docs": (plain_image, f"<nav>{LOGO}{MENU}</nav><main>", "</main><footer>Built by hand</footer>"),
    "blog": (
        lazy_image, f"<header>{LOGO}<p>The blog</p></header><article>",
        "</article><div class='share'>Share this!</div><aside>Newest posts</aside><div id=comments><p>First!</p></div>",
    ),
    "news": (
        picture_element, f"<div class='navbar'>{MENU}</div><div class='cookie banner'>We use cookies.</div><section>",
        "</section><section class='related'><p>Read on</p></section><div role=contentinfo>All rights reserved</div>",
    ),
    "wiki": (srcset_image, f"<div id=sidebar>{MENU}</div><div id=content>", "</div><script>track('you')</script>"),
}  # fmt: skip


def page_of(title: str, blocks: Sequence[Block], *, site: str, charset: str, language: str, draw: random.Random) -> str:
    """A page in the manner of a site."""
    image, before, after = SITES[site]
    parts = [f"<h1>{marked(title, draw)}</h1>"]
    for kind, value in blocks:
        if kind == "image":
            name, caption, has_caption = value
            tag = image(f"/img/{name}" if site == "docs" else f"../img/{name}", html.escape(caption))
            text = f"<figcaption>Picture: {html.escape(caption)}.</figcaption>"
            parts.append(f"<figure>{tag}{text}</figure>" if has_caption else f"<a href=/big/{name}>{tag}</a>")
        elif kind == "ul":
            parts.append("<ul>" + "".join(f"<li>{marked(item, draw)}</li>\n" for item in value) + "</ul>")
        elif kind == "table":
            rows = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in value)
            parts.append("<table>" + "".join(f"<tr>{row}</tr>\n" for row in rows) + "</table>")
        elif kind == "pre":
            parts.append(f"<pre>\n{html.escape(value, quote=False)}</pre>")
        else:
            tag = "h2" if kind == "h" else "p"
            parts.append(f"<{tag}>{marked(value, draw)}</{tag}>")
    head = f'<meta charset="{charset}"><title>{html.escape(title)} - {site}</title><style>p {{ margin: 1em }}</style>'
    body = f"{before}\n" + "\n".join(parts) + f"\n{after}"
    return f"<!doctype html>\n<html lang={language}><head>{head}</head>\n<body>\n{body}\n</body></html>\n"


def make_pages(out: Path, pages: int, draw: random.Random, *, hold_out: bool) -> tuple[dict[str, Any], Pictures]:
    """Write the pages and their pictures, and say what they hold.

    Of twenty pages one is a copy of another, and one another with other pictures and a line more.
    """
    pictures, texts = Pictures(out / "img", draw, hold_out=hold_out), list(articles())
    draw.shuffle(texts)
    told: list[dict[str, Any]] = []
    originals: dict[str, tuple[str, list[Block]]] = {}
    for number in range(pages):
        site, language, copied, near = draw.choice(list(SITES)), "en", None, None
        name = f"{site}/{number:05d}.html"
        if number % 20 == 19:
            copied = draw.choice([one for one in told if one["file"] in originals])
            name = f"{Path(copied['file']).parent}/{number:05d}.html"  # a link that is relative leads to the same
            page, segments = (out / copied["file"]).read_bytes(), copied["segments"]
        else:
            title, blocks = texts[number % len(texts)]
            if number % 10 == 4:
                language = draw.choice(list(LANGUAGES))
                title, blocks = foreign_article(language, draw)
            elif number % 20 == 9:
                near = draw.choice(list(originals))
                title, blocks = originals[near]
                blocks = [*blocks, ("p", f"Put up again as number {number}.")]
            else:
                originals[name] = title, blocks
            blocks = with_pictures(blocks, pictures, draw)
            charset = LANGUAGES[language]["encoding"] if language in LANGUAGES else "utf-8"
            written = page_of(title, blocks, site=site, charset=charset, language=language, draw=draw)
            page, segments = written.encode(charset), truth_of(title, blocks)
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(page)
        told.append({
            "file": name, "url": f"{HOST}/{name}", "language": language, "segments": segments,
            "copy_of": copied and copied["file"], "near_copy_of": near,
        })  # fmt: skip
    return {"pages": told, "images": pictures.told}, pictures


def write_tar(path: Path, samples: Sequence[dict[str, bytes]]) -> None:
    """Samples as they stand in a tar: members of one key behind each other, without owner or time."""
    path.parent.mkdir()
    with tarfile.open(path, "w") as tar:
        for number, members in enumerate(samples):
            for suffix, data in members.items():
                member = tarfile.TarInfo(f"{number:09d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def as_json(values: Any) -> bytes:
    """JSON as a file."""
    return json.dumps(values, ensure_ascii=False, indent=1).encode()


def pairs_of(images: dict[str, dict[str, Any]], folder: Path) -> Iterator[dict[str, bytes]]:
    """Good pictures with their descriptions, as img2dataset writes them."""
    for number, (name, told) in enumerate(sorted(one for one in images.items() if one[1]["kind"] == "good")):
        data, (width, height) = (folder / name).read_bytes(), told["size"]
        about = {
            "url": f"{HOST}/img/{name}", "caption": told["caption"], "key": f"{number:09d}", "status": "success",
            "error_message": None, "width": width, "height": height, "original_width": width, "original_height": height,
            "exif": "{}", "sha256": hashlib.sha256(data).hexdigest(),
        }  # fmt: skip
        yield {Path(name).suffix[1:]: data, "txt": told["caption"].encode(), "json": as_json(about)}


def clip_of(picture: Image.Image, frames: int) -> bytes:
    """A clip in which a picture goes from left to right."""
    av, file = importlib.import_module("av"), io.BytesIO()
    picture = picture.resize((96, 96))
    with av.open(file, "w", format="mp4", options={"fflags": "bitexact"}) as container:
        stream = container.add_stream("mpeg4", rate=12, options={"flags": "bitexact"})
        stream.width, stream.height, stream.pix_fmt = 256, 128, "yuv420p"
        for number in range(frames):
            frame = Image.new("RGB", (256, 128), "white")
            frame.paste(picture, (160 * number // max(frames - 1, 1), 16))
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())
    return file.getvalue()


def clips_of(pictures: Pictures, draw: random.Random, count: int) -> Iterator[dict[str, bytes]]:
    """Clips with their captions, as WebVid has them."""
    for number in range(count):
        image, caption = pictures.digit()
        frames = draw.randrange(12, 72)
        told = f"{caption} goes from left to right"
        about = {
            "videoid": f"{number:09d}", "contentUrl": f"{HOST}/clips/{number:09d}.mp4", "duration": frames / 12,
            "page_dir": f"{number // 4:06d}", "name": told,
        }  # fmt: skip
        yield {"mp4": clip_of(image, frames), "txt": told.encode(), "json": as_json(about)}


def questions_of(pictures: Pictures, count: int) -> Iterator[dict[str, bytes]]:
    """Written digits that no other picture shows, with their descriptions, as img2dataset writes pairs."""
    for number in range(count):
        image, caption = pictures.digit(held_out=True)
        about = {"key": f"{number:09d}", "caption": caption, "status": "success"}
        yield {"png": as_file(image, "PNG"), "txt": caption.encode(), "json": as_json(about)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, and write the corpus."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--pages", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--questions", type=int, default=0, help="pictures of digits that no other picture shows")
    args = parser.parse_args(arguments)
    if args.out.exists():
        parser.error(f"{args.out} is there already; name a new folder")
    if args.pages < 1 or args.questions < 0:
        parser.error(f"--pages is {args.pages}, wanted 1 or more; --questions is {args.questions}, wanted 0 or more")
    args.out.mkdir(parents=True)
    draw = random.Random(args.seed)  # noqa: S311 - no secret
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of parts of the standard library that are looked at
        truth, pictures = make_pages(args.out / "pages", args.pages, draw, hold_out=args.questions > 0)
    write_tar(args.out / "pairs" / "00000.tar", list(pairs_of(truth["images"], pictures.folder)))
    if find_spec("av") is None:
        print("no clips: they need the package av")
    else:
        write_tar(args.out / "clips" / "00000.tar", list(clips_of(pictures, draw, 8)))
    if args.questions:
        write_tar(args.out / "questions" / "00000.tar", list(questions_of(pictures, args.questions)))
    (args.out / "truth.json").write_bytes(as_json({"seed": args.seed, **truth}))
    print(f"Wrote {args.out}: {len(truth['pages'])} pages, {len(truth['images'])} pictures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
