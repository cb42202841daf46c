"""The look of the page: one sheet of style, for light and dark, for telephones and wide screens."""

# What numbers its images in the margin, and faintly what lies behind the text that sees them: (light, dark).
HUES = (
    ("#1659c7", "#7db7ff"),
    ("#9a4500", "#ffb26b"),
    ("#1a6e37", "#7ee2a0"),
    ("#7438b8", "#cdb0ff"),
    ("#b3202e", "#ff9aa2"),
    ("#0d6a63", "#5eead4"),
    ("#6a5c00", "#e6d36a"),
    ("#a3246f", "#ff9bd6"),
)
LIGHT = {"page": "#f6f7f9", "card": "#ffffff", "text": "#1c2128", "muted": "#56606b", "line": "#d5dae0"}
DARK = {"page": "#0e1116", "card": "#171b22", "text": "#e4e9ef", "muted": "#a3adb8", "line": "#39414b"}
LIGHT |= {"none": "#56606b", "none-tint": "#f0f1f3", "wrong": "#a40e26", "on-hue": "#ffffff"}
DARK |= {"none": "#a3adb8", "none-tint": "#1f242c", "wrong": "#ff9492", "on-hue": "#0e1116"}

_RULES = """
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 16px/1.55 system-ui, sans-serif; }
.page, main { max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem; margin: .5rem 0; }
h2 { font-size: 1.1rem; margin: 0; }
p { margin: .35rem 0; }
a { color: var(--link); }
a:focus-visible, figure:focus-visible, summary:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
h1, h2, p, dd, dt, figcaption, a { overflow-wrap: anywhere; }
.muted { color: var(--muted); font-size: .875rem; }
.wrong { color: var(--wrong); }
nav { display: flex; flex-wrap: wrap; gap: .25rem; margin: .75rem 0; }
nav a { min-width: 2rem; padding: .15rem .4rem; border: 1px solid var(--line); border-radius: .3rem;
  text-align: center; text-decoration: none; }
.doc { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem;
  margin: 0 0 1.25rem; }
.flow { margin: .75rem 0; }
.see { position: relative; border-inline-start: .3rem solid var(--hue); background: var(--tint);
  padding: .4rem .6rem .4rem 3.8rem; margin: 0 0 .3rem; min-height: 2.3rem; border-radius: .25rem; }
.num { position: absolute; left: .5rem; top: .45rem; min-width: 1.6rem; max-width: 3.1rem; padding: 0 .3rem;
  border-radius: .3rem; background: var(--hue); color: var(--on-hue); text-align: center;
  font: 600 .8rem/1.5rem system-ui, sans-serif; }
.line { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: plaintext; text-align: start; }
.token { unicode-bidi: isolate; display: inline-block; margin: 0 .15rem; padding: 0 .35rem;
  border: 1px solid var(--text); border-radius: .3rem; font: .8rem/1.4 ui-monospace, monospace; white-space: nowrap; }
.token.ignored { border-style: dashed; border-color: var(--muted); color: var(--muted); }
.text.ignored { color: var(--muted); text-decoration: underline dotted; text-underline-offset: .25em; }
.none { --hue: var(--none); --tint: var(--none-tint); }
figure { display: flex; flex-wrap: wrap; gap: .5rem .8rem; align-items: flex-start; margin: .2rem 0; cursor: pointer; }
figure img { display: block; max-width: 100%; height: auto; min-width: 3.5rem; border-radius: .25rem;
  background: #fff; }
.strip { display: flex; flex-wrap: wrap; gap: .25rem; max-width: 100%; }
.gone { width: 14rem; max-width: 100%; min-height: 4.5rem; padding: .5rem; border: 2px dashed var(--muted);
  border-radius: .25rem; color: var(--muted); font-size: .875rem; overflow-wrap: anywhere; }
figcaption { flex: 1 1 12rem; min-width: 0; font-size: .875rem; }
figcaption p { margin: .1rem 0; }
.see:has(figure:is(:hover, :focus)), .see:has(figure:is(:hover, :focus)) ~ .see {
  outline: 3px solid var(--hue); outline-offset: -1px; }
details { font-size: .875rem; }
summary { cursor: pointer; color: var(--muted); }
dl { margin: .4rem 0; display: grid; grid-template-columns: minmax(5rem, max-content) 1fr; gap: .2rem .8rem; }
dt { color: var(--muted); }
dd { margin: 0; white-space: pre-wrap; }
.reason { display: inline-block; padding: 0 .4rem; border: 1px solid var(--wrong); color: var(--wrong);
  border-radius: .3rem; font-size: .875rem; }
@media (max-width: 40rem) {
  .page, main { padding: .6rem; }
  .doc { padding: .7rem; }
  .see { padding: .4rem .5rem .4rem 3rem; }
  .num { left: .2rem; max-width: 2.6rem; font-size: .7rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .4rem; }
}
"""


def style_sheet() -> str:
    """The sheet, which names no file and no other host.

    Example:
        >>> "url(" in style_sheet()
        False
    """
    light, dark = _colours(0, LIGHT), _colours(1, DARK)
    return f":root {{ color-scheme: light dark; }}\n{light}@media (prefers-color-scheme: dark) {{\n{dark}}}{_RULES}"


def tint(hue: str, card: str, *, share: float) -> str:
    """A hue laid thinly over the colour of a card.

    Args:
        hue: Colour as `#rrggbb`.
        card: Colour below it.
        share: How much of the hue is seen.

    Example:
        >>> tint("#ff0000", "#ffffff", share=0.1)
        '#ffe6e6'
    """
    pairs = ((int(hue[at : at + 2], 16), int(card[at : at + 2], 16)) for at in (1, 3, 5))
    return "#" + "".join(f"{round(share * above + (1 - share) * below):02x}" for above, below in pairs)


def tints(mode: int) -> list[str]:
    """What lies behind the text that sees an image, for each hue: in the light (0) or in the dark (1)."""
    card, share = (LIGHT["card"], 0.08) if mode == 0 else (DARK["card"], 0.12)
    return [tint(hues[mode], card, share=share) for hues in HUES]


def _colours(mode: int, names: dict[str, str]) -> str:
    link = HUES[0][mode]
    root = f":root {{ {' '.join(f'--{name}: {colour};' for name, colour in names.items())} --link: {link}; }}\n"
    behind = zip(HUES, tints(mode), strict=True)
    return root + "".join(
        f".hue{number} {{ --hue: {hues[mode]}; --tint: {thin}; }}\n" for number, (hues, thin) in enumerate(behind)
    )
