"""The documents: what they tell a reader to type runs, what they show is there. CONTRIBUTING.md states the rules."""

from __future__ import annotations

import inspect
import json
import re
import runpy
import shlex
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import click
import pytest

from pilotage import api, explain
from pilotage.cli import options
from pilotage.cli.entry import group
from pilotage.cli.reproducing import path_of
from pilotage.data.piece import Piece, UsageError, load
from pilotage.policies.registry import KINDS
from pilotage.run.statistics import Interval
from pilotage.run.wording import Wording

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
IDS = [path.name for path in DOCUMENTS]
BLOCK = re.compile(r"(?:<!-- (?P<note>[^>]*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
RESOLVED = "resolved only"
COMMAND = re.compile(r"(?:\.venv/bin/)?pilotage ")
QUIET = "evaluation.tasks=3 evaluation.max_steps=20 start=none"
SMALL = "prompts_per_step=2 samples_per_prompt=2"
CUT = {
    "train": ["--steps", "2"],
    "compare": ["--steps", "2", "--seeds", "1", "--jobs", "1"],
    "eval": ["--tasks", "3"],
}

every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)


@dataclass(frozen=True)
class Block:
    """A fenced block, and the note in a comment above it."""

    language: str
    text: str
    note: str


def blocks(path: Path) -> list[Block]:
    found = BLOCK.finditer(path.read_text(encoding="utf-8"))
    return [Block(one["language"], one["text"], one["note"] or "") for one in found]


def prose(path: Path) -> str:
    return BLOCK.sub("", path.read_text(encoding="utf-8"))


def commands(block: Block) -> Iterator[tuple[list[str], str]]:
    """Each line of a shell block as words, and its comment."""
    for line in block.text.splitlines():
        command, _, comment = re.sub(r"^\.venv/bin/", "", line).partition(" #")
        if command.strip():
            yield shlex.split(command), comment


@every_document
def test_what_a_document_says_to_type_runs(path: Path, own_folder: Path, pilotage: Callable) -> None:
    for example in (ROOT / "docs" / "examples").iterdir():
        if example.is_file():
            shutil.copy(example, own_folder)
    for block in blocks(path):
        if block.note.startswith("file: "):
            continue  # see the test below
        if block.language == "python":
            sys.path.append(str(own_folder))  # where a reader's python would look first
            exec(compile(block.text, str(path), "exec"), {})  # noqa: S102
        elif block.language == "shell":
            for words, comment in commands(block):
                whole = block.note != RESOLVED and (words[1] != "compare" or path.name == "comparing.md")
                run(words, whole, "refused" in comment, pilotage)
        else:
            assert block.language == "text", f"{path.name} has a block of {block.language or 'no language'}"


def run(words: list[str], whole: bool, refused: bool, pilotage: Callable) -> None:
    program, *arguments = words
    if program == "make":
        assert f"\n{arguments[0]}:" in (ROOT / "Makefile").read_text(encoding="utf-8")
    elif program == "python":
        runpy.run_path(arguments[0], run_name="__main__")
    elif arguments[0] == "reproduce" and len(arguments) > 1:  # minutes, even the small version
        assert load(path_of(arguments[1])).arms(quick=True)
    elif not whole:
        resolve(arguments)
    else:
        assert program == "pilotage"
        found = pilotage(*arguments, *added(arguments))
        assert found.status == (2 if refused else 0), f"{shlex.join(words)}: {found.err or found.out}"


def added(arguments: list[str]) -> list[str]:
    """What cuts a command short, as CONTRIBUTING.md says."""
    verb = arguments[0]
    if arguments[:2] == ["data", "make"]:
        return ["--steps", "300", "--expert-steps", "2"]
    if verb not in ("train", "compare"):
        return CUT.get(verb, [])
    small = {"ppo": "", "a2fm": "prompts_per_step=1"}  # windows are no groups, and its groups are of twelve
    settings = f"{QUIET} {small.get(arguments[1], SMALL)}"
    return [*CUT[verb], *(word for setting in settings.split() for word in ("--set", setting))]


def resolve(arguments: list[str]) -> None:
    """The recipe that a command of `train` or `compare` would run."""
    verb, *rest = arguments
    given = group.commands[verb].make_context(verb, rest).params
    names = ("world", "policy", "data", "seed", "steps", "settings", "config")
    asked = options.asked_for(*(given.get(name) for name in names))
    for name in given.get("names") or [given["name"]]:
        assert api.recipe(name, asked.world, asked.policy, settings=asked.settings).policy.target


@every_document
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if re.match(r"https?:", link):
            continue
        name, _, heading = link.partition("#")
        target = path if not name else path.parent / name
        assert target.exists(), link
        if heading:
            assert heading in headings(target), link


def headings(path: Path) -> set[str]:
    """The anchors that a page's headings get."""
    lines = re.findall(r"^#+ (.+)$", prose(path), re.M)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


@every_document
def test_what_running_text_names_is_there(path: Path) -> None:
    for code in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose(path)):
        try:
            look_up(code)
        except (AssertionError, UsageError) as error:
            raise AssertionError(f"{path.name} names `{code}`: {error}") from None


def look_up(code: str) -> None:
    if re.fullmatch(r"(src|docs|tests|experiments|benchmarks)/[\w./-]*", code):
        assert (ROOT / code).exists() or "NAME" in code, "there is no such file"
    elif re.fullmatch(r"pilotage(\.\w+)+:\w+", code):
        load(code)
    elif COMMAND.match(code):
        verb, *rest = shlex.split(COMMAND.sub("", code))
        assert verb in group.commands, f"no verb {verb}"
        assert {word for word in rest if word.startswith("--")} <= flags(verb)
    elif code.startswith("--"):
        words = shlex.split(code)
        assert words[0] in flags() | OTHER_FLAGS, "no such flag"
        if words[0] == "--set" and (named := re.match(r"([a-z_]+(\.[a-z_]+)*)=", " ".join(words[1:]))):
            check_setting(named[1])
    elif re.fullmatch(r"(terms|credit|sampler|rollout|evaluation|limits|world|policy)\.[a-z_.]+", code):
        check_setting(code)


# between them they have every path that documents name
USUAL = ("ppo", "grpo", "nft", "mdpo", "td3-bc", "iql", "cql", "ddpo", "dpo", "a2fm", "t-ppo", "ghpo", "clpo",
         "sec", "mmr1", "rep-exp", "exit", "anytime-reasoner", "mrt", "mrt-star")  # fmt: skip
OTHER_FLAGS = {"--quick", "--check"}  # of modules of experiments/ and benchmarks/


def flags(verb: str = "") -> set[str]:
    """The options of a verb, or of all."""
    verbs = [group.commands[verb]] if verb else list(group.commands.values())
    verbs += [inner for one in verbs if isinstance(one, click.Group) for inner in one.commands.values()]
    return {name for one in verbs for option in one.params if isinstance(option, click.Option) for name in option.opts}


def check_setting(path: str) -> None:
    """Raises UsageError, or fails, where no recipe has such a path."""
    head, _, key = path.partition(".")
    if head in ("world", "policy") and key:
        known = settings_of_worlds() if head == "world" else settings_of_policies()
        assert key.partition(".")[0] in known, f"no {head} has {key}"
        return
    assert any(api.full_path(explain.bare(slug)[0], path) for slug in USUAL), "no recipe has such a path"


def names_of(piece: str) -> set[str]:
    return set(inspect.signature(load(piece)).parameters)


@cache
def settings_of_worlds() -> set[str]:
    pieces = ["reasoning:ReasoningWorld", "gym:GymWorld", "minigrid:MiniGridWorld", "tabular:TabularWorld",
              "bandits:SimulatedBandit", "bandits:TableBandit", "images:Digits",
              "pointmaze:PointMazeWorld", "preferences:PreferenceFile", "modes:Sums", "mixed:MixedWorld"]  # fmt: skip
    return set().union(*(names_of(f"pilotage.worlds.{piece}") for piece in pieces))


@cache
def settings_of_policies() -> set[str]:
    return set().union(*(names_of(kind.use) for kind in KINDS))


def test_tables_and_shown_files_are_up_to_date() -> None:
    script = ROOT / "docs" / "refresh.py"
    found = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr


def test_numbers_beside_the_picture_are_those_of_its_record() -> None:
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    record = json.loads((ROOT / "docs" / "img" / "report.json").read_text(encoding="utf-8"))
    (result,) = record["results"]
    say = Wording(result["metric"])
    assert result["verdict"] in text
    for arm in ("candidate", "baseline"):
        assert say.value(Interval(**result[arm]["final"])) in text
        assert f"{say.number(result[arm]['start']['estimate'])} %" in text


def test_pictures_are_small_and_described() -> None:
    for path in DOCUMENTS:
        for words, name in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", prose(path)):
            assert len(words) > 20, f"{name} in {path.name} needs a description"
    for picture in (ROOT / "docs" / "img").glob("*.png"):
        data = picture.read_bytes()
        assert len(data) < 300_000
        assert struct.unpack(">I", data[16:20])[0] <= 1200


def test_pieces_that_do_not_fit_are_refused_before_a_folder_is_made(own_folder: Path, pilotage: Callable) -> None:
    shutil.copy(ROOT / "docs" / "examples" / "my_pieces.py", own_folder / "own_pieces.py")
    for setting, said in (
        ("loss=own_pieces:brief", "asks for 'batch', which it cannot have"),
        ("loss=own_pieces:Again", "its instances cannot be called"),
        ("loss=own_pieces:sofened", "did you mean 'softened'?"),
        ("credit.mine=own_pieces:softened", "asks for 'rows', which it cannot have"),
        ("sampler=pilotage.data.store:Fresh", "is not a sampler: it has no open()"),
        ("store=own_pieces:Again", "is not a store: it has no add()"),
    ):
        found = pilotage("train", "grpo", "--world", "tabular", "--set", setting, "--out", "run")
        assert (found.status, said in found.err) == (2, True), found.err
        assert not (own_folder / "run").exists()


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_tables_can_be_read_in_any_terminal(pilotage: Callable, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setattr("pilotage.cli.catalogue.width", lambda: columns)
    listed = pilotage("list").out
    assert "group mean, batch deviation" in listed
    assert ("changes" in listed) == (columns == 200)
    assert "…" not in listed + pilotage("show", "nft").out.rpartition("Settings")[2]
    assert max(map(len, listed.splitlines())) <= columns


def test_a_message_lists_a_few_names_only(pilotage: Callable) -> None:
    found = pilotage("explain", "ppo", "--world", "tabular", "--set", "zzz=1")
    assert found.status == 2
    assert re.search(r"known: .* and \d+ more$", found.err.strip())


def test_a_short_path_means_the_policys_objective() -> None:
    made = api.recipe("ppo", "tabular")
    assert len(made.terms["policy"].objectives) > 1
    assert made.resolve("loss") == "terms.policy.objectives.policy.loss"
    assert isinstance(made.get(made.resolve("loss")), Piece)
    with pytest.raises(UsageError, match="could be"):
        api.recipe("mdpo", "tabular").resolve("learning_rate")
