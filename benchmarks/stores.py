"""Drawing from stores of HalfCheetah's shapes: the last decisions of a run, and a logged data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.measure import Measured
from benchmarks.timing import clock, since

SEEN, ACTED, LENGTH = 17, 6, 1000


def _record(decisions: int) -> Any:
    """Decisions without meaning, in episodes that are cut."""
    import torch

    from pilotage.data.batch import Batch

    episodes, make = decisions // LENGTH, torch.Generator().manual_seed(0)
    columns = {
        "observation": torch.randn(decisions, SEEN, generator=make),
        "action": torch.randn(decisions, ACTED, generator=make),
        "reward": torch.randn(decisions, generator=make),
    }
    entries = {
        "terminated": torch.zeros(episodes, dtype=torch.bool),
        "final_observation": torch.randn(episodes, SEEN, generator=make),
    }
    return Batch(torch.arange(episodes + 1) * LENGTH, columns, entries)


def drawing(*, store: str, decisions: int, rows: int, draws: int) -> Callable[[], Measured]:
    """Batches of `rows` random rows with their next observations, each from a stream of its own as in a run.

    store: "replay", "offline", or "weighted", which is offline with draw weights. facts: bytes that the store holds
    over those of observation, action and reward, each once.
    """
    import torch

    from pilotage.data.offline import Offline
    from pilotage.data.replay import Replay
    from pilotage.data.rng import Streams

    record = _record(decisions)
    made: Any
    if store == "replay":
        made = Replay(capacity=decisions + len(record), start_after=0)
        made.add(record)
        held = list(made.rows.values())
    else:
        if store == "weighted":
            record = record.with_columns(draw_weight=torch.rand(decisions, dtype=torch.float64))
        made = Offline()
        made.fill(record)
        held = [*record.columns.values(), *record.episode.values(), record.offsets]
        held += (
            [] if made.weighted is None else [torch.from_numpy(a) for a in (made.weighted.weights, made.weighted.sums)]
        )
    raw = decisions * 4 * (SEEN + ACTED + 1)
    over = sum(column.numel() * column.element_size() for column in held) / raw
    streams = Streams(0)

    def repeat() -> Measured:
        began = clock()
        for index in range(draws):
            made.draw(streams.generator("draw", 0, index), rows)
        return Measured(draws, *since(began), facts={"bytes_over_raw": over})

    return repeat
