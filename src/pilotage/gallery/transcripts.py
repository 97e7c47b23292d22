"""What the policies wrote, before and after: the first held-out tasks, not chosen ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pilotage.gallery.figures import Arm
from pilotage.gallery.page import text
from pilotage.run.log import read_transcripts
from pilotage.run.wording import minus

SHOWN = 6
LONGEST = 4000  # characters of one text
Episode = Mapping[str, Any]


def transcripts_section(arms: Sequence[Arm], shown: int = SHOWN) -> str:
    """Cards with each prompt and the answers of the start, the baseline and the candidate; empty without transcripts.

    Taken from the first run of each arm; tasks are matched by their prompt and order.
    """
    columns: list[tuple[str, str, list[Episode]]] = []
    for arm in reversed(arms):  # the baseline first, as a reader compares
        before, after = _ends(arm)
        if before and not columns:
            columns.append(("start", "", before))
        if after:
            columns.append((f"{arm.name}, end", arm.key, after))
    if not columns:
        return ""
    cards = []
    for i in range(min(shown, *(len(episodes) for _, _, episodes in columns))):
        same = [(name, key, episodes[i]) for name, key, episodes in columns]
        prompts = {str(episode.get("prompt", "")) for _, _, episode in same}
        if len(prompts) == 1:
            cards.append(_card(i, prompts.pop(), same))
    if not cards:
        return ""
    seed = arms[0].runs[0].seed
    lead = f"The first {len(cards)} held-out tasks of seed {seed}, not chosen ones; each answer is one sample."
    return f'<h2>Transcripts</h2><p class="soft">{text(lead)}</p>{"".join(cards)}'


def _ends(arm: Arm) -> tuple[list[Episode], list[Episode]]:
    """The episodes of the first and of the last evaluation that kept some."""
    episodes: list[Episode] = [*read_transcripts(arm.runs[0].folder)]
    steps = sorted({episode["step"] for episode in episodes})
    if not steps:
        return [], []
    first, last = ([episode for episode in episodes if episode["step"] == step] for step in (steps[0], steps[-1]))
    return (first if steps[0] == 0 else []), last


def _card(number: int, prompt: str, answers: Sequence[tuple[str, str, Episode]]) -> str:
    inner = "".join(_answer(name, key, episode) for name, key, episode in answers)
    title = f'<h3 id="task-{number}">Task {number + 1}</h3>'
    asked = f'<pre class="prompt" tabindex="0">{text(_cut(prompt))}</pre>' if prompt else ""
    return f'<article aria-labelledby="task-{number}">{title}{asked}<div class="answers">{inner}</div></article>'


def _answer(name: str, key: str, episode: Episode) -> str:
    reward = episode.get("reward")
    facts = [f"reward {minus(f'{reward:.3g}')}" if isinstance(reward, (int, float)) else "no valid reward"]
    facts += [str(episode["stop"]).replace("_", " ")] if episode.get("stop") else []
    facts += [str(episode["reason"])] if episode.get("reason") else []
    kind = f' class="{key}"' if key else ""
    return (
        f"<section><h4{kind}>{text(name)} <span>· {text(' · '.join(facts))}</span></h4>"
        f'<pre tabindex="0">{text(_cut(str(episode.get("answer", "")))) or " "}</pre></section>'
    )


def _cut(words: str) -> str:
    return words if len(words) <= LONGEST else f"{words[:LONGEST]} … ({len(words) - LONGEST} more characters)"
