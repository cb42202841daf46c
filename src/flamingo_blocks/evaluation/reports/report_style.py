"""The look of the report: one sheet of style, for light and dark, for telephones and wide screens."""

from flamingo_blocks.data.show.page_style import DARK, LIGHT

# (light, dark): own, then the colours of controls. They keep 3 to 1 against the card in both modes and differ in
# lightness for who sees no red or green; marks and labels tell them apart without colours.
OWN_HUE = ("#0059b3", "#66b2ff")
CONTROL_HUES = (
    ("#c04a00", "#ff9a5c"),
    ("#00735c", "#3fd1ac"),
    ("#a1338f", "#f09be0"),
    ("#7a6400", "#e3cc5c"),
    ("#7d1b3a", "#ff8fa8"),
    ("#2e2a8a", "#b3b5ff"),
    ("#0b6f8c", "#6fd3ef"),
)
PUBLISHED_HUE = ("#7a838d", "#8d97a2")

_RULES = """
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 16px/1.55 system-ui, sans-serif; }
main, header { max-width: 84rem; margin: 0 auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 1rem 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1.05rem; margin: 0; }
p { margin: .35rem 0; max-width: 60rem; }
h1, h2, h3, p, li, td, th, figcaption { overflow-wrap: anywhere; }
.muted { color: var(--muted); font-size: .875rem; }
.grid-of { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 23rem), 1fr)); gap: 1rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .9rem; min-width: 0; }
.warn { border-inline-start: .3rem solid var(--wrong); }
.warn ul, .said { margin: .3rem 0; padding-inline-start: 1.2rem; }
.chart { display: block; width: 100%; max-width: 34rem; height: auto; margin: .4rem 0; }
.chart text { font: 11px system-ui, sans-serif; fill: var(--text); }
.chart .tick { fill: var(--muted); }
.grid { stroke: var(--line); stroke-width: 1; }
.zero { stroke: var(--text); stroke-width: 1.2; }
.line { fill: none; stroke: var(--hue); stroke-width: 1.6; }
.own .line { stroke-width: 2.6; }
.control .line, .baseline .line { stroke-dasharray: 1.5 3.5; stroke-linecap: round; stroke-width: 2; }
.published .line { stroke-dasharray: 6 4; stroke-width: 1.3; }
.band { fill: var(--own); opacity: .18; }
.bar { fill: none; stroke: var(--own); stroke-width: 1.2; }
.mark { fill: var(--hue); }
.baseline .mark { fill: var(--card); stroke: var(--hue); stroke-width: 1.5; }
.lead { fill: none; stroke: var(--hue); stroke-width: .7; opacity: .7; }
.chart .own .label { font-weight: 700; }
.chart .published .label { fill: var(--muted); }
.reach { fill: none; stroke: var(--own); stroke-width: 2.2; }
.sure { fill: var(--own); stroke: var(--own); stroke-width: 2; }
.unsure { fill: var(--card); stroke: var(--own); stroke-width: 2; }
.own { --hue: var(--own); }
.baseline { --hue: var(--text); }
.published { --hue: var(--published); }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; list-style: none; padding: 0; margin: .5rem 0;
  font-size: .875rem; }
.key svg { width: 44px; height: 16px; vertical-align: middle; margin-inline-end: .35rem; }
.scroll { overflow-x: auto; margin: .5rem 0; }
table { border-collapse: collapse; font-size: .875rem; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .6rem; text-align: start; vertical-align: top; }
th { color: var(--muted); font-weight: 600; }
.scores td, .scores th { white-space: nowrap; }
.samples { width: 100%; }
.samples td { min-width: 8rem; unicode-bidi: plaintext; white-space: pre-wrap; }
.samples td:nth-child(2) { min-width: 15rem; }
details { font-size: .875rem; margin-top: .4rem; }
summary { cursor: pointer; color: var(--muted); }
.scroll:focus-visible, summary:focus-visible { outline: 3px solid var(--own); outline-offset: 2px; }
.facts { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: .15rem .9rem; margin: .4rem 0;
  font-size: .875rem; }
.facts dt { color: var(--muted); overflow-wrap: anywhere; }
.facts dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
@media (max-width: 40rem) {
  main, header { padding: 0 .6rem; }
  .card { padding: .6rem; }
  .chart text { font-size: 12px; }
  .facts { grid-template-columns: 1fr; gap: 0; }
  .facts dd { margin-bottom: .35rem; }
}
@media print { details { display: block; } .card { break-inside: avoid; } }
"""


def style_sheet() -> str:
    """The sheet, which names no file and no other host.

    Example:
        >>> "url(" in style_sheet()
        False
    """
    dark = f"@media (prefers-color-scheme: dark) {{\n{_colours(1, DARK)}}}"
    return f":root {{ color-scheme: light dark; }}\n{_colours(0, LIGHT)}{dark}{_RULES}"


def _colours(mode: int, names: dict[str, str]) -> str:
    own = f"--own: {OWN_HUE[mode]}; --published: {PUBLISHED_HUE[mode]};"
    root = f":root {{ {' '.join(f'--{name}: {colour};' for name, colour in names.items())} {own} }}\n"
    return root + "".join(
        f".control.hue{number} {{ --hue: {hues[mode]}; }}\n" for number, hues in enumerate(CONTROL_HUES)
    )
