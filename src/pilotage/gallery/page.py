"""One self-contained HTML page: its style, its script, and a policy that forbids every request and foreign script.

Everything that comes from a run passes `text`. Should something ever slip through, the page's Content-Security-Policy
still runs only the two scripts whose hashes it names and loads nothing from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

STYLE = """
:root { color-scheme: light dark;
  --paper: #fdfcfa; --card: #f5f3ee; --ink: #1c1b19; --soft: #5d5a54; --rule: #dedad2;
  --a: #0b6e8f; --a-band: rgba(11, 110, 143, .15); --b: #b4530a; --b-band: rgba(180, 83, 10, .13);
  --good: #1d6b3f; --bad: #a32a1f; --serif: ui-serif, "Iowan Old Style", Palatino, "Book Antiqua", Georgia, serif;
  --mono: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #16181b; --card: #1f2226; --ink: #ebe8e2; --soft: #a5a29b; --rule: #363a40;
  --a: #5cc3e6; --a-band: rgba(92, 195, 230, .17); --b: #f0a35e; --b-band: rgba(240, 163, 94, .15);
  --good: #6fcf97; --bad: #f28b82; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main, header, footer { max-width: 66rem; margin: 0 auto; padding: 0 clamp(1rem, 4vw, 2.5rem); }
header { padding-top: clamp(2rem, 6vw, 4.5rem); }
h1, h2, h3, .verdict { font-family: var(--serif); font-weight: 600; line-height: 1.2; text-wrap: balance; }
h1 { font-size: clamp(1.9rem, 5vw, 3rem); margin: .2rem 0 1rem; letter-spacing: -.015em; overflow-wrap: anywhere; }
h2 { font-size: 1.45rem; margin: 3.2rem 0 .9rem; padding-top: 1.1rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1.02rem; margin: 0 0 .3rem; }
p { max-width: 44rem; margin: .5rem 0; } .soft { color: var(--soft); font-size: .92rem; }
.kind { font-size: .8rem; letter-spacing: .09em; text-transform: uppercase; color: var(--soft); margin: 0; }
.verdict { font-size: clamp(1.2rem, 2.8vw, 1.6rem); font-weight: 500; line-height: 1.38; max-width: 50rem;
  margin: 0; text-wrap: pretty; overflow-wrap: anywhere; }
.badge { display: inline-block; font-weight: 600; font-size: .86rem; padding: .12rem .7rem; border-radius: 1rem;
  border: 1.5px solid currentColor; margin-bottom: .8rem; color: var(--soft); }
.badge.better { color: var(--good); } .badge.worse { color: var(--bad); }
.forest { max-width: 50rem; margin: 1.8rem 0 0; font-size: .86rem; color: var(--soft); }
.forest .row { display: grid; grid-template-columns: 10rem 1fr; align-items: center; }
.forest .row:first-child { grid-template-columns: 1fr 1fr; gap: 1.2rem; margin-left: 10rem; padding-bottom: .3rem; }
.forest .left { text-align: right; } .forest svg { display: block; width: 100%; height: 34px; }
.zero { stroke: var(--soft); stroke-dasharray: 2 4; }
.reach { stroke: var(--a); stroke-width: 4; stroke-linecap: round; }
.row:last-child:nth-child(3) .reach { stroke-width: 2; } .forest circle { fill: var(--a); stroke: var(--paper);
  stroke-width: 2; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.5rem; margin: 0; padding: 0; list-style: none;
  font-size: .95rem; }
.legend li { display: flex; align-items: center; gap: .5rem; overflow-wrap: anywhere; }
.swatch { flex: none; width: 1.9rem; border-top: 3px solid var(--a); } .b .swatch { border-top: 3px dashed var(--b); }
.scroll { overflow-x: auto; } .scroll:focus-visible, pre:focus-visible { outline: 2px solid var(--a); }
table { border-collapse: collapse; width: 100%; font-size: .95rem; font-variant-numeric: tabular-nums; }
table + table, .scroll + .scroll { margin-top: 1.6rem; }
caption { text-align: left; color: var(--soft); font-size: .9rem; padding-bottom: .5rem; }
th, td { padding: .5rem .7rem .5rem 0; text-align: right; vertical-align: top; border-bottom: 1px solid var(--rule); }
th:last-child, td:last-child { padding-right: 0; }
th:first-child, .words td, .words th { text-align: left; overflow-wrap: break-word; }
thead th { font-weight: 600; border-bottom: 1.5px solid var(--soft); vertical-align: bottom; }
tbody th { font-weight: 400; }
.range { display: block; color: var(--soft); font-size: .84em; white-space: nowrap; }
thead .a { color: var(--a); } thead .b { color: var(--b); }
ul.notes { padding-left: 1.1rem; max-width: 44rem; color: var(--soft); font-size: .95rem; }
figure { margin: 0; min-width: 0; } .chart { width: 100%; min-height: 400px; } .small .chart { min-height: 210px; }
.controls { display: flex; flex-wrap: wrap; gap: .7rem 2rem; align-items: center; justify-content: space-between;
  margin-bottom: .6rem; }
fieldset { border: 0; margin: 0; padding: 0; display: flex; flex-wrap: wrap; font-size: .88rem; }
legend { float: left; padding: .25rem .7rem .25rem 0; color: var(--soft); }
fieldset label { cursor: pointer; padding: .25rem .8rem; border: 1px solid var(--rule); margin-left: -1px; }
fieldset label:has(:checked) { background: var(--ink); color: var(--paper); border-color: var(--ink); }
fieldset label:has(:focus-visible) { outline: 2px solid var(--a); outline-offset: 2px; }
fieldset input { position: absolute; opacity: 0; width: 1px; height: 1px; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(19rem, 100%), 1fr)); gap: 1.8rem 2rem; }
details { margin: .9rem 0; } summary { cursor: pointer; color: var(--soft); font-size: .92rem; }
summary:hover { color: var(--ink); }
article { border-top: 1px solid var(--rule); padding: 1.1rem 0; }
article .answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(16rem, 100%), 1fr)); gap: .8rem; }
.answers section { min-width: 0; } .answers h4 { margin: 0 0 .25rem; font-size: .84rem; font-weight: 600; }
.answers h4 span { font-weight: 400; color: var(--soft); } h4.a { color: var(--a); } h4.b { color: var(--b); }
pre { margin: 0; padding: .7rem .85rem; background: var(--card); border-radius: 6px; font: .83rem/1.5 var(--mono);
  white-space: pre-wrap; overflow-wrap: anywhere; max-height: 17rem; overflow-y: auto; unicode-bidi: isolate; }
pre.prompt { background: none; padding: 0 0 .8rem; font-size: .9rem; }
code { font: .88em var(--mono); overflow-wrap: anywhere; }
footer { padding-top: 2rem; padding-bottom: 3rem; color: var(--soft); font-size: .88rem; }
@media (max-width: 40rem) { body { font-size: 15px; } table { font-size: .86rem; }
  th, td { padding-right: .5rem; } .range { white-space: normal; font-size: .8em; } h2 { margin-top: 2.4rem; }
  .forest .row { grid-template-columns: 1fr; } .forest .row:first-child { margin: 0; } }
@media print { fieldset, summary { display: none; } h2 { break-after: avoid; }
  article, figure { break-inside: avoid; } }
"""

SCRIPT = """
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const inks = (value, style) => {
    if (typeof value === "string") {
      return value.startsWith("var(") ? style.getPropertyValue(value.slice(4, -1)).trim() : value;
    }
    if (Array.isArray(value)) return value.map((part) => inks(part, style));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, inks(part, style)]));
    }
    return value;
  };
  const draw = () => {
    const chosen = document.querySelector("input[name=axis]:checked");
    const style = getComputedStyle(document.documentElement);
    for (const [id, axes] of Object.entries(figures)) {
      const { data, layout } = inks(axes[chosen ? chosen.value : "step"], style);
      Plotly.react(id, data, layout, { displayModeBar: false, responsive: true });
    }
  };
  document.querySelectorAll("input[name=axis]").forEach((input) => input.addEventListener("change", draw));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
})();
"""


def text(value: object) -> str:
    """A value as HTML text: nothing in it can be markup, and what UTF-8 cannot hold is replaced."""
    return html.escape(str(value).encode("utf-8", "replace").decode(), quote=True)


def breakable(value: object) -> str:
    """As `text`, for paths, names and hashes: a line may break after their signs."""
    return re.sub(r"([._/(=,-])(?=\S)", r"\1<wbr>", text(value))


def document(title: str, header: str, body: str, footer: str, figures: Mapping[str, Any]) -> str:
    """The whole page; header, body and footer are HTML, `figures` is {element id: {axis: Plotly figure}}."""
    from plotly.offline import get_plotlyjs

    scripts = [get_plotlyjs(), SCRIPT] if figures else []
    # inside a script element only "<" can end the element early
    data = json.dumps(figures, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    inline = "".join(f"<script>{script}</script>\n" for script in scripts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{text(title)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
<noscript><style>.chart, fieldset {{ display: none; }}</style></noscript>
</head>
<body>
<header>{header}</header>
<main>{body}</main>
<footer>{footer}</footer>
<script type="application/json" id="figures">{data}</script>
{inline}</body>
</html>
"""


def _policy(scripts: Sequence[str]) -> str:
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{found}'" for found in hashes) or "'none'"
    rest = "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; script-src {allowed}; {rest}"


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], caption: str, *, words: bool = False, arms: Sequence[str] = ()
) -> str:
    """A table of texts; "62.3 % (58.1 to 66.5)" puts the part in brackets below. `arms` are classes of the columns."""
    classes = [*arms, *[""] * len(head)][: len(head)]
    heads = "".join(
        f'<th scope="col" class="{kind}">{text(name)}</th>' for name, kind in zip(head, classes, strict=True)
    )
    lines = []
    for first, *others in rows:
        cells = "".join(f"<td>{breakable(cell) if words else _cell(cell)}</td>" for cell in others)
        lines.append(f'<tr><th scope="row">{breakable(first) if words else text(first)}</th>{cells}</tr>')
    kind = ' class="words"' if words else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}"><table{kind}>'
        f"<caption>{text(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def chart(identity: str, heard: str, caption: str = "", *, small: bool = False) -> str:
    """The place of one chart, with what a screen reader hears in its stead."""
    kind = ' class="small"' if small else ""
    title = f'<figcaption><h3 id="{identity}-title">{text(caption)}</h3></figcaption>' if caption else ""
    return (
        f'<figure{kind}>{title}<div class="chart" id="{identity}" role="img" aria-label="{text(heard)}"></div></figure>'
    )


def _cell(cell: str) -> str:
    value, bracket, rest = cell.partition(" (")
    if not bracket or not rest.endswith(")"):
        return text(cell)
    return f'{text(value)} <span class="range">{text(rest[:-1])}</span>'
