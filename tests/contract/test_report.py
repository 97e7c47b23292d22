"""The report: one file, no request, nothing of a run's text becomes markup, and readable without its script."""

import html.parser
import itertools
import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest

from pilotage.data.piece import UsageError
from pilotage.gallery.page import breakable, text
from pilotage.gallery.report import write_comparison, write_runs
from pilotage.run.log import RunLog

EVIL = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\ud800"


class Page(html.parser.HTMLParser):
    """Tags with attributes, the words outside of scripts, and the contents of scripts."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.words, self.scripts, self.inside = [], [], [], None
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside = tag if tag in ("script", "style") else None

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts.append(data)
        elif self.inside is None:
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def run(tmp_path):
    def write(name, seed, gain, evil="", metric="eval/accuracy"):
        folder = tmp_path / f"{name[:4]}-{seed}"
        rng = np.random.default_rng(seed)
        with RunLog.create(folder, {"name": name}, name=name, seed=seed) as log:
            for step in range(0, 41):
                if step:
                    used = {"count/decisions": step * 100, "count/episodes": step, "count/verdicts": step}
                    more = {"train/reward": gain * step, "policy/entropy": 1 / step, "mismatch/kl": float("nan")}
                    log.record(step, "train", {**more, **used, "seconds": step * 0.1})
                if step % 20 == 0:
                    items = np.clip(0.1 + gain * step / 40 + rng.normal(0, 0.01, 10), 0, 1)
                    log.record(
                        step, "eval", {metric: items.mean(), "eval/low": 0.0, "eval/high": 1.0, "eval/items": items}
                    )
                    episode = {
                        "prompt": f"1 + 1 = {evil}",
                        "answer": f"at {step}: {evil}",
                        "reward": 0.5,
                        "stop": "length",
                    }
                    log.transcripts(step, [episode, {**episode, "reward": None, "reason": evil}])
        return folder

    return write


@pytest.fixture
def page(run, tmp_path):
    a = [run(f"nft{EVIL}", seed, 0.5, EVIL) for seed in range(3)]
    b = [run(f"grpo{EVIL}", seed, 0.3, EVIL) for seed in range(3)]
    changes = [("terms.policy.loss", {"use": "a.b:clip", "low": 0.2}, {"use": f"c:d{EVIL}"}), (EVIL, None, 1)]
    found = write_comparison(tmp_path / "report.html", a, b, changes=changes, claim=EVIL, title=EVIL)
    assert found.kind == "better"
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    return tmp_path / "report.html", source, Page(source), found


def test_no_text_of_a_run_becomes_markup(page):
    _, source, parsed, _ = page
    assert len(parsed.all("script")) == 3  # the figures, plotly, the page's own
    assert parsed.all("img") == []
    for _, attributes in parsed.tags:
        assert not any(name.startswith("on") for name in attributes)
    assert "document.title='owned'" not in source
    assert source.count("<script>document.title") == 0
    assert "at 40: </script><script>" in "".join(parsed.words)  # shown as text


def test_nothing_is_requested(page):
    _, source, parsed, _ = page
    for tag, attributes in parsed.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, attributes)
    style = source[source.index("<style>") : source.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    policy = next(a["content"] for a in parsed.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]


def test_readable_without_the_script(page):
    _, _, parsed, found = page
    words = " ".join("".join(parsed.words).split())
    assert found.difference_over_items is not None
    assert "by 20.0 points" in words or "better than" in words
    for heading in ("Result", "Learning curves", "In training", "What differs", "Transcripts", "Provenance"):
        assert heading in words
    for what in ("held-out accuracy, end", "reward calls", "clip(low=0.2)", "Seed by seed", "4 000"):
        assert what in words


def test_accessible(page):
    _, _, parsed, _ = page
    assert parsed.all("html") == [{"lang": "en"}]
    assert len(parsed.all("h1")) == 1
    levels = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch(r"h\d", tag)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    charts = [a for a in parsed.all("div") if a.get("class") == "chart"]
    assert len(charts) >= 3
    assert all(a["role"] == "img" and len(a["aria-label"]) > 20 for a in charts)
    assert len(parsed.all("caption")) == len(parsed.all("table")) >= 5
    assert all(a.get("scope") in ("col", "row") for a in parsed.all("th"))
    assert any(a.get("name") == "viewport" for a in parsed.all("meta"))
    identities = [a["id"] for _, a in parsed.tags if "id" in a]
    assert len(identities) == len(set(identities))


def test_figures_are_valid_plotly(page):
    graph_objects = pytest.importorskip("plotly.graph_objects")
    _, _, parsed, _ = page
    figures = json.loads(parsed.scripts[0], parse_constant=lambda name: pytest.fail(name))
    assert set(figures["held-out"]) == {"step", "count/decisions", "seconds"}
    assert len(figures) == 3  # held out, reward, entropy: a mismatch that was never finite has no chart

    def coloured(value):
        if isinstance(value, str):
            return re.sub(r"^var\(--[a-z-]+\)$", "#123456", value)
        if isinstance(value, list):
            return [coloured(part) for part in value]
        return {key: coloured(part) for key, part in value.items()} if isinstance(value, dict) else value

    for axes in figures.values():
        for figure in axes.values():
            assert graph_objects.Figure(coloured(figure)).data
    lines = figures["held-out"]["count/decisions"]["data"]
    assert lines[-1]["x"] == [0, 2000, 4000]


def test_one_run_alone(run, tmp_path):
    arm = write_runs(tmp_path / "one.html", [run("ppo", 3, 0.4, metric="eval/return")])
    words = " ".join("".join(Page((tmp_path / "one.html").read_text()).words).split())
    assert arm.seeds == (3,)
    assert "over held-out items; one seed)" in words
    assert "bands are 95 % intervals over held-out items" in words


def test_the_same_runs_give_the_same_file(run, tmp_path):
    folder = run("ppo", 3, 0.4)
    for name in ("x.html", "y.html"):
        write_runs(tmp_path / name, [folder])
    assert (tmp_path / "x.html").read_bytes() == (tmp_path / "y.html").read_bytes()


def test_reports_need_runs(tmp_path):
    with pytest.raises(UsageError, match="is not a run folder"):
        write_runs(tmp_path / "one.html", [tmp_path])
    assert not (tmp_path / "one.html").exists()


def test_home_folders_stay_out(page, tmp_path):
    assert str(tmp_path) not in page[1]


def test_text():
    assert text("<b a=\"1\" b='2'>&") == "&lt;b a=&quot;1&quot; b=&#x27;2&#x27;&gt;&amp;"
    assert text("\ud800") == "?"
    assert breakable("a.b_c") == "a.<wbr>b_<wbr>c"
    assert "<script" not in breakable("<script")


def test_in_a_browser(page, tmp_path):
    if shutil.which("chromium") is None:
        missing = "needs chromium, which .ci/browser installs where it can"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    quiet = "--disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"
    command = ["chromium", "--headless", "--no-sandbox", *quiet.split(), "--disable-sync"]
    command += [
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=12000",
        "--dump-dom",
        f"file://{page[0]}",
    ]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert answer.stdout.count('class="main-svg"') >= 3  # drawn, under the page's own policy
    assert "<title>owned" not in answer.stdout
