"""The report of a comparison, or of runs of one recipe, as one HTML file that needs nothing else.

The verdict, the tables and the transcripts are plain HTML; only the charts need the script, which is inside the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pilotage.gallery.figures import Arm, available_axes, held_out_figures, held_out_points, training_panels
from pilotage.gallery.page import chart, document, table, text
from pilotage.gallery.transcripts import transcripts_section
from pilotage.run.results import AXES, RunResult, read_run
from pilotage.run.verdict import Comparison, Side, compare_runs, rise_sentence, side, side_rows
from pilotage.run.wording import Wording, compute_rows, quantity

Change = tuple[str, Any, Any]
NARROW = "\u202f"  # a space that does not break


def write_comparison(
    out: Path | str,
    candidate: Sequence[Path | str],
    baseline: Sequence[Path | str],
    *,
    changes: Sequence[Change] = (),
    claim: str = "",
    title: str = "",
) -> Comparison:
    """Writes the report of two arms given as run folders to the file `out`, and returns the comparison.

    changes: (path, baseline's value, candidate's value) of each field in which the recipes differ. claim: what the
    paper says, shown above the verdict. Raises UsageError as `compare_runs` does.
    """
    a, b = [read_run(folder) for folder in candidate], [read_run(folder) for folder in baseline]
    found = compare_runs(a, b)
    arms = [Arm("a", found.candidate.name, a), Arm("b", found.baseline.name, b)]
    title = title or f"{found.candidate.name} against {found.baseline.name}"
    say = Wording(found.metric)
    parts = _Parts(arms)
    header = _header("Comparison", title, found.kind, found.verdict, claim) + _forest(found)
    body = [
        "<h2>Result</h2>",
        table(
            ["", found.candidate.name, found.baseline.name, "difference"],
            found.rows(),
            f"Means with {found.difference.level * 100:g} % intervals over {len(found.candidate.seeds)} seeds",
            arms=["", "a", "b"],
        ),
        table(
            ["", found.candidate.name, found.baseline.name, "ratio"],
            found.compute_rows(),
            "What one run used, in the mean",
            arms=["", "a", "b"],
        ),
        _list(found.notes),
        _per_seed(a, b, found, say),
        *parts.curves(),
        _changes(changes, found),
        transcripts_section(arms),
        _provenance([*a, *b], Path(out)),
    ]
    _write(Path(out), document(title, header, "\n".join(body), _footer(), parts.figures))
    return found


def write_runs(out: Path | str, folders: Sequence[Path | str], *, title: str = "") -> Side:
    """Writes the report of runs of one recipe (one, or several seeds) to the file `out`; returns their intervals.

    Raises UsageError if a folder holds no run with an evaluation.
    """
    runs = [read_run(folder) for folder in folders]
    arm = side(runs[0].name, runs)
    arms = [Arm("a", arm.name, runs)]
    title = title or arm.name
    parts = _Parts(arms)
    seeds = f"{len(runs)} seeds" if len(runs) > 1 else "one seed"
    body = [
        "<h2>Result</h2>",
        table(
            ["", arm.name], side_rows(arm, runs[0].metric), f"Means with 95 % intervals over {seeds}", arms=["", "a"]
        ),
        table(["", arm.name], compute_rows([arm.compute]), "What one run used, in the mean", arms=["", "a"]),
        *parts.curves(),
        transcripts_section(arms),
        _provenance(runs, Path(out)),
    ]
    header = _header("Run", title, "", rise_sentence(arm, runs[0].metric), "")
    _write(Path(out), document(title, header, "\n".join(body), _footer(), parts.figures))
    return arm


class _Parts:
    """The chart sections, and the figures that go with them."""

    def __init__(self, arms: Sequence[Arm]) -> None:
        self.arms = arms
        self.say = Wording(arms[0].runs[0].metric)
        self.figures: dict[str, Any] = {"held-out": held_out_figures(arms)}

    def curves(self) -> list[str]:
        heard = []
        rows = []
        for arm in self.arms:
            points = held_out_points(arm)
            rows += [
                [str(p.step), arm.name, self.say.value(p.interval), quantity(p.x["count/decisions"])] for p in points
            ]
            if points:
                first, last = points[0], points[-1]
                ends = f"{self.say.value(first.interval)} at step {first.step}", self.say.value(last.interval)
                heard.append(f"{arm.name} from {ends[0]} to {ends[1]} at step {last.step}")
        rows.sort(key=lambda row: int(row[0]))
        many = any(len(arm.runs) > 1 for arm in self.arms)
        band = "over seeds, thin lines are seeds" if many else "over held-out items"
        return [
            "<h2>Learning curves</h2>",
            f'<div class="controls">{_legend(self.arms)}{_axes(available_axes(self.arms))}</div>',
            chart("held-out", f"Line chart of {self.say.name}: {'; '.join(heard)}"),
            f'<p class="soft">{text(self.say.name.capitalize())}; bands are 95 % intervals {band}.</p>',
            "<details><summary>The curves as a table</summary>",
            table(["step", "arm", self.say.name, "decisions"], rows, f"{self.say.name} at each evaluation"),
            "</details>",
            *self._training(),
        ]

    def _training(self) -> list[str]:
        places = []
        for i, (title, heard, figures) in enumerate(training_panels(self.arms)):
            self.figures[f"training-{i}"] = figures
            places.append(chart(f"training-{i}", f"Line chart of {title}: {heard}", title, small=True))
        lead = '<p class="soft">Means over seeds, faint as they are, strong as a running mean.</p>'
        return ["<h2>In training</h2>", lead, f'<div class="grid">{"".join(places)}</div>'] if places else []


def _header(kind: str, title: str, badge: str, sentence: str, claim: str) -> str:
    mark = f'<p class="badge {text(badge.split(" ")[0])}">{text(badge)}</p>' if badge else ""
    said = f'<p class="soft"><strong>The claim:</strong> {text(claim)}</p>' if claim else ""
    sentence = sentence[:1].upper() + sentence[1:] if sentence.startswith(("no ", "only ")) else sentence
    return (
        f'<p class="kind">Pilotage · {text(kind)}</p><h1>{text(title)}</h1>{mark}'
        f'<p class="verdict">{text(sentence.replace(" %", NARROW + "%"))}.</p>{said}'
    )


def _forest(found: Comparison) -> str:
    """The difference and its intervals on one scale with zero: the verdict as a picture, without any script."""
    named = [("over seeds", found.difference), ("over seeds and items", found.difference_over_items)]
    drawn = [(label, interval) for label, interval in named if interval is not None and interval.known]
    if not drawn:
        return ""
    reach = 1.06 * max(max(abs(i.low), abs(i.high)) for _, i in drawn) or 1.0
    say = Wording(found.metric)
    rows = [
        f'<span class="left">← {text(found.baseline.name)} better</span>'
        f"<span>{text(found.candidate.name)} better →</span>"
    ]
    for label, interval in drawn:
        # in percent of the width, so that text beside it keeps its size on a phone
        low, middle, high = (f"{50 + 50 * x / reach:.2f}%" for x in (interval.low, interval.estimate, interval.high))
        rows.append(
            f'<span class="label">{text(label)}</span><svg role="img" aria-label="{text(say.change(interval))}">'
            '<line x1="50%" x2="50%" y1="0" y2="100%" class="zero"/>'
            f'<line x1="{low}" x2="{high}" y1="50%" y2="50%" class="reach"/>'
            f'<circle cx="{middle}" cy="50%" r="7"/></svg>'
        )
    return '<div class="forest">' + "".join(f'<div class="row">{row}</div>' for row in rows) + "</div>"


def _per_seed(a: Sequence[RunResult], b: Sequence[RunResult], found: Comparison, say: Wording) -> str:
    partner = {run.seed: run for run in b}
    rows = []
    for run in a:
        if run.seed in partner:
            values = [run.final, partner[run.seed].final, run.final - partner[run.seed].final]
            rows.append([str(run.seed), *map(say.number, values)])
    names = ["seed", found.candidate.name, found.baseline.name, "difference"]
    unit = " in percent" if say.accuracy else ""
    inner = table(names, rows, f"{say.name} of the last policies{unit}", arms=["", "a", "b"])
    return f"<details><summary>Seed by seed</summary>{inner}</details>"


def _changes(changes: Sequence[Change], found: Comparison) -> str:
    if not changes:
        return ""
    rows = [[path, _setting(before), _setting(after)] for path, before, after in changes]
    head = ["field", found.baseline.name, found.candidate.name]
    caption = f"The recipes differ in {len(rows)} field{'s' if len(rows) > 1 else ''}; everything else is the same"
    return "<h2>What differs</h2>" + table(head, rows, caption, words=True, arms=["", "b", "a"])


def _setting(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, Mapping) and "use" in value:
        inner = ", ".join(f"{name}={_setting(item)}" for name, item in value.items() if name != "use")
        name = str(value["use"]).rpartition(":")[2]
        return f"{name}({inner})" if inner else name
    return str(value)


def _provenance(runs: Sequence[RunResult], out: Path) -> str:
    rows = []
    for run in runs:
        manifest = run.manifest
        command = " ".join(map(str, manifest.get("command", [])))
        commit, _, modified = str(manifest.get("commit") or "–").partition("-")
        state = commit[:12] + (", modified" if modified else "")
        started = str(manifest.get("started", "–")).removesuffix("+00:00").replace("T", " ")
        rows.append([run.name, str(run.seed), _place(run.folder, out), started, state, command])
    head = ["run", "seed", "folder", "started (UTC)", "commit", "command"]
    versions = {f"{name} {number}" for run in runs for name, number in run.manifest.get("versions", {}).items()}
    places = [run.manifest.get("platform", {}) for run in runs]
    machines = {f"{p.get('system')} {p.get('machine')}, {p.get('processors')} processors" for p in places}
    return (
        "<h2>Provenance</h2>"
        + table(head, rows, "Where the numbers come from", words=True)
        + f'<p class="soft">{text(", ".join(sorted(versions)))}. '
        + f"{text('; '.join(sorted(machines)))}.</p>"
    )


def _place(folder: Path, out: Path) -> str:
    """The folder as seen from the report, so that no home folder is told to whoever gets the file."""
    try:
        found = os.path.relpath(folder, out.parent)
    except ValueError:  # on another drive
        return folder.name
    return folder.name if found.startswith(os.path.join("..", "..")) else found


def _legend(arms: Sequence[Arm]) -> str:
    items = "".join(f'<li class="{arm.key}"><span class="swatch"></span>{text(arm.name)}</li>' for arm in arms)
    return f'<ul class="legend">{items}</ul>'


def _axes(names: Sequence[str]) -> str:
    if len(names) < 2:
        return ""
    labels = []
    for name in names:
        checked = " checked" if name == names[0] else ""
        labels.append(f'<label><input type="radio" name="axis" value="{name}"{checked}>{text(AXES[name])}</label>')
    return f"<fieldset><legend>All charts over</legend>{''.join(labels)}</fieldset>"


def _list(notes: Sequence[str]) -> str:
    return f'<ul class="notes">{"".join(f"<li>{text(note)}</li>" for note in notes)}</ul>' if notes else ""


def _footer() -> str:
    return (
        "<p>The verdict rests on the last policies, paired by seed, with Student’s t: with a handful of seeds a "
        "bootstrap would be too sure of itself. The interval over seeds and held-out items has to agree.</p>"
        "<p>The best of many evaluations flatters both sides and decides nothing.</p>"
    )


def _write(out: Path, page: str) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f".{out.name}.partial")
    aside.write_text(page, encoding="utf-8")
    aside.replace(out)
