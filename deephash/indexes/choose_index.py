"""Choice of the fastest kind of index that finds enough neighbours, by measurements on the user's own codes."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deephash.indexes.base import Index
from deephash.validation import InvalidInputError

APPROXIMATE = {"faiss_ivf": "probes", "faiss_hnsw": "ef_search", "usearch": "ef_search"}
"""Approximate kinds that are tried, with the setting that raises their recall."""
EFFORTS = (16, 32, 64, 128, 256)
"""Values of this setting, in the order of their trials."""
SAMPLE = 20_000
"""Maximal number of codes of a first trial of an approximate kind."""
QUERIES, NEIGHBOURS = 64, 10
MAX_BUILD_SECONDS = 300.0
"""An approximate kind whose build is predicted to take longer is left out."""
PASSES = 2


@dataclass(frozen=True)
class Trial:
    """One measured index.

    Args:
        kind: kind of index.
        settings: its settings that differ from the defaults.
        codes: number of codes of the trial.
        recall: share of neighbours that were found.
        milliseconds: time of a query.
        build_seconds: time of the build.
        note: reason why the kind was chosen or not.
    """

    kind: str
    settings: dict[str, Any]
    codes: int
    recall: float
    milliseconds: float
    build_seconds: float
    note: str = ""


@dataclass(frozen=True)
class Choice:
    """What was tried, and what was chosen; `str` is a short table.

    Args:
        recall: the recall that was asked for.
        trials: all trials, in their order.
    """

    recall: float
    trials: tuple[Trial, ...]

    def __str__(self) -> str:
        lines = [f"{'kind':<12}{'setting':<15}{'codes':>11}{'recall':>8}{'ms/query':>10}{'build s':>9}  note"]
        for trial in self.trials:
            setting = ", ".join(f"{name}={value}" for name, value in trial.settings.items())
            lines.append(
                f"{trial.kind:<12}{setting:<15}{trial.codes:>11,}{trial.recall:>8.3f}{trial.milliseconds:>10.3f}"
                f"{trial.build_seconds:>9.1f}  {trial.note}"
            )
        return "\n".join(lines)


def measure_recall(found: Tensor, nearest: Tensor) -> float:
    """Share of neighbours that are as near as the k nearest; a tie at the last place counts, whichever item it is.

    Args:
        found: distances that an index found, ascending (q, k + 1).
        nearest: distances of the nearest codes, ascending (q, k + 1). The first of each query, which is the query
            itself or a copy of it, is not counted.
    """
    return float((found[:, 1:] <= nearest[:, -1:]).double().mean())


def measure_search(index: Index, queries: Tensor) -> tuple[Tensor, float]:
    """Return the distances of a search, and its least time per query in milliseconds, after a first pass."""
    distances, _ = index.search(queries, NEIGHBOURS + 1)
    times = []
    for _ in range(PASSES):
        began = time.perf_counter()
        index.search(queries, NEIGHBOURS + 1)
        times.append(time.perf_counter() - began)
    return distances, 1e3 * min(times) / len(queries)


def set_effort(index: Index, name: str, value: int) -> None:
    """Change the setting of a built index that raises its recall."""
    setattr(index, name, value)
    if hasattr(index, "_set_up"):
        index._set_up()


class Chooser:
    """Trials of kinds on the codes of a database.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉), N above the number of neighbours.
        bits: code length b.
        recall: recall to reach, above 0 and below 1.
        seed: seed of the queries, which are items of the database, and of the sample.
    """

    def __init__(self, codes: Tensor, bits: int, recall: float, seed: int) -> None:
        self.codes, self.bits, self.recall = codes, bits, recall
        order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(seed))
        self.queries = codes[order[:QUERIES].sort().values]
        self.sample = codes[order[:SAMPLE].sort().values] if len(codes) > SAMPLE else codes
        self.trials: list[Trial] = []

    def choose(self, exact: Sequence[Index], build_seconds: Sequence[float]) -> Index:
        """Return the fastest index; an approximate one must reach the recall on all codes.

        Args:
            exact: built exact indexes of all codes.
            build_seconds: the times of their builds.
        """
        best, least, nearest = exact[0], float("inf"), torch.empty(0)
        for index, seconds in zip(exact, build_seconds, strict=True):
            nearest, milliseconds = measure_search(index, self.queries)
            self._note(index, {}, 1.0, milliseconds, seconds, "exact")
            if milliseconds < least:
                best, least = index, milliseconds
        for milliseconds, kind, effort in self._promising():
            if milliseconds >= least:
                break  # Even on the sample it is slower.
            index, seconds = self._build(kind, self.codes)
            for value in EFFORTS[EFFORTS.index(effort) :]:
                set_effort(index, APPROXIMATE[kind], value)
                found, milliseconds = measure_search(index, self.queries)
                recall = measure_recall(found, nearest)
                reached = recall >= self.recall
                slow = milliseconds >= least
                note = "slower" if slow else "" if reached else "misses neighbours"
                self._note(index, {APPROXIMATE[kind]: value}, recall, milliseconds, seconds, note)
                if slow or reached:
                    break
            if reached and not slow:
                best, least = index, milliseconds
        self._mark(best)
        return best

    def _promising(self) -> list[tuple[float, str, int]]:
        """Try the approximate kinds on the sample, and return the times and settings of those that reach the recall."""
        from deephash.indexes.flat import Flat

        nearest = measure_search(Flat(self.sample, self.bits), self.queries)[0]
        found_kinds: list[tuple[float, str, int]] = []
        for kind, name in APPROXIMATE.items():
            try:
                index, seconds = self._build(kind, self.sample)
            except InvalidInputError:
                continue  # Its package is not installed.
            predicted = seconds * len(self.codes) / len(self.sample)
            for value in EFFORTS:
                set_effort(index, name, value)
                found, milliseconds = measure_search(index, self.queries)
                recall = measure_recall(found, nearest)
                reached = recall >= self.recall
                note = "sample" if reached else "sample, misses neighbours"
                if reached and predicted > MAX_BUILD_SECONDS:
                    note = f"sample, a build of all would take {predicted:.0f} s"
                self._note(index, {name: value}, recall, milliseconds, seconds, note)
                if reached:
                    if predicted <= MAX_BUILD_SECONDS:
                        found_kinds.append((milliseconds, kind, value))
                    break
        return sorted(found_kinds)

    def _build(self, kind: str, codes: Tensor) -> tuple[Index, float]:
        from deephash.indexes.build_index import build_index

        began = time.perf_counter()
        index = build_index(kind, codes, self.bits, {})
        return index, time.perf_counter() - began

    def _note(
        self, index: Index, settings: dict[str, Any], recall: float, milliseconds: float, seconds: float, note: str
    ) -> None:
        self.trials.append(Trial(index.kind, settings, len(index), recall, milliseconds, seconds, note))

    def _mark(self, best: Index) -> None:
        """Note which trial was chosen: the last one of its kind on all codes."""
        for place in reversed(range(len(self.trials))):
            trial = self.trials[place]
            if trial.kind == best.kind and trial.codes == len(self.codes):
                note = "chosen, exact" if best.exact else "chosen"
                self.trials[place] = Trial(**{**vars(trial), "note": note})
                return
