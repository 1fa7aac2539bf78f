"""What participants see: the lists of two runs, and items without anything that tells whose they are."""

from collections.abc import Sequence
from typing import Any, final

import torch

from deephash.data.items import Items
from deephash.evaluation.view_scores import direction_name
from deephash.hashers.hasher_views import get_directions
from deephash.ranking.auto_engine import AutoEngine
from deephash.report.item_display import format_classes
from deephash.satisfaction.ranked_lists import ranked_lists
from deephash.satisfaction.team_draft import team_draft
from deephash.validation import InvalidInputError, check_choice
from deephash.web.demo.query import IMAGE, TEXT, item_query
from deephash.web.demo.served_run import ServedRun
from deephash.web.study.design import INTERLEAVED, PlannedTrial, StudyDesign, drawn_pool, planned_trials
from deephash.web.study.records import ShownItem, StudiedRun, Study, Trial

# Letters of a text that an item shows.
TEXT_LETTERS = 400


@final
class Presentation:
    """Two runs as participants see them.

    Args:
        runs: the first and the second, of the same data, split and score.
        design: of the study.

    Raises:
        InvalidInputError: another number of runs, runs of other data or queries, or a direction that they lack.
    """

    def __init__(self, runs: Sequence[ServedRun], design: StudyDesign) -> None:
        check_comparable(runs)
        self.runs = tuple(runs)
        self.design = design
        self.asking, self.searched = chosen_direction(runs, design.direction)
        self.pool = drawn_pool(runs[0].queries_with(self.asking).tolist(), design)

    @property
    def items(self) -> Items:
        """The data set that both runs are of."""
        return self.runs[0].items

    def study(self, consent: str) -> Study:
        """What a log of this study is of.

        Args:
            consent: the text that participants agree to.
        """
        first, second = (StudiedRun(run.folder.name, run.title, run.hasher.identity) for run in self.runs)
        return Study(self.design, (first, second), self.runs[0].data.split.hash, consent)

    def trials(self, session: int) -> list[PlannedTrial]:
        """A participant's queries in order."""
        return planned_trials(self.pool.tolist(), self.design, session)

    def trial(self, place: int, planned: PlannedTrial) -> Trial:
        """The lists of a planned query."""
        # Ties stand in one random order for both runs: what they find alike they show alike.
        lists = [self._list(run, planned) for run in self.runs]
        if planned.mode == INTERLEAVED:
            generator = torch.Generator().manual_seed(planned.seed)
            ids, teams = team_draft(lists[0][None], lists[1][None], generator)
            both = zip(ids[0].tolist(), teams[0].tolist(), strict=True)
            return Trial(place, planned.query, planned.mode, (tuple(ShownItem(item, run) for item, run in both),))
        sides = (planned.left, 1 - planned.left)
        shown = tuple(tuple(ShownItem(item, run) for item in lists[run].tolist()) for run in sides)
        return Trial(place, planned.query, planned.mode, shown)

    def face(self, row: int, view: str) -> dict[str, Any]:
        """What there is to see of an item: its picture or its text, of one view as both; its classes where neither."""
        items = self.items
        words = "" if items.texts is None or view == IMAGE else items.texts[row]
        pictured = items.images is not None and view != TEXT
        return {
            "picture": f"/api/items/{row}.png" if pictured else None,
            "words": words if len(words) <= TEXT_LETTERS else words[: TEXT_LETTERS - 1].rstrip() + "…",
            "name": "" if pictured or words else format_classes(items.labels, items.class_names, row) or f"item {row}",
        }

    def described(self, trial: Trial) -> dict[str, Any]:
        """A trial as the page gets it: blind."""
        return {
            "place": trial.place,
            "mode": trial.mode,
            "query": self.face(trial.query, self.asking),
            "lists": [[self.face(one.item, self.searched) for one in items] for items in trial.lists],
        }

    def _list(self, run: ServedRun, planned: PlannedTrial) -> torch.Tensor:
        """Rows in the data set of what a run finds, int64 (K,)."""
        codes = run.searched[self.searched]
        query = item_query(run, planned.query, self.asking)
        generator = torch.Generator().manual_seed(planned.seed)
        depth = min(self.design.depth, len(codes))
        found = ranked_lists(AutoEngine(), query.code, codes.codes, codes.distance, depth, generator)[0]
        return torch.as_tensor(run.database.ids[codes.positions[found]])


def check_comparable(runs: Sequence[ServedRun]) -> None:
    """Raise an error for runs whose lists for one query cannot be compared.

    Raises:
        InvalidInputError: another number than two, or other data, split or queries.
    """
    if len(runs) != 2:
        raise InvalidInputError(f"runs={len(runs)}; expected two, of the same data and split.")
    first, second = runs
    for name, one, other in (
        ("data", first.collection, second.collection),
        ("split", first.data.split.hash, second.data.split.hash),
        ("queries", first.query_rows.tolist(), second.query_rows.tolist()),
        ("database", first.database.ids.tolist(), second.database.ids.tolist()),
        ("views", list(first.searched), list(second.searched)),
    ):
        if one != other:
            raise InvalidInputError(
                f"{first.folder} and {second.folder} have other {name}; a study needs two runs of the same data, "
                "protocol, seed and score."
            )


def chosen_direction(runs: Sequence[ServedRun], direction: str) -> tuple[str, str]:
    """Which view asks and which is searched.

    Raises:
        InvalidInputError: a direction that the runs lack.
    """
    known = get_directions(runs[0].hasher)
    if len(known) == 1:
        if direction:
            raise InvalidInputError(f"direction={direction!r}; these runs have one view: leave --direction out.")
        return known[0]
    named = {direction_name(*views): views for views in known}
    check_choice(direction, named, "direction")
    return named[direction]
