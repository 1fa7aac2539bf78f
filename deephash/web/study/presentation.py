"""The lists of two runs as participants see them, without anything that identifies the run."""

from collections.abc import Sequence
from typing import Any, final

import torch

from deephash.data.items import Items
from deephash.evaluation.view_scores import direction_name
from deephash.hashers.hasher_views import get_directions
from deephash.ranking.auto_engine import AutoEngine
from deephash.report.item_display import format_classes, shorten
from deephash.satisfaction.ranked_lists import rank_lists
from deephash.satisfaction.team_draft import team_draft
from deephash.validation import InvalidInputError, check_choice
from deephash.web.demo.query import IMAGE, TEXT, encode_item
from deephash.web.demo.served_run import ServedRun
from deephash.web.page_application import TEXT_CHARACTERS
from deephash.web.study.design import INTERLEAVED, PlannedTrial, StudyDesign, draw_pool, plan_trials
from deephash.web.study.records import ShownItem, StudiedRun, Study, Trial


@final
class Presentation:
    """Two runs as participants see them.

    Args:
        runs: first and second run, of the same data, split and score.
        design: design of the study.

    Raises:
        InvalidInputError: there are not two runs, they have different data or queries, or they lack the direction.
    """

    def __init__(self, runs: Sequence[ServedRun], design: StudyDesign) -> None:
        check_comparable(runs)
        self.runs = tuple(runs)
        self.design = design
        self.asking, self.searched = choose_direction(runs, design.direction)
        self.pool = draw_pool(runs[0].queries_with(self.asking).tolist(), design)

    @property
    def items(self) -> Items:
        """The data set of both runs."""
        return self.runs[0].items

    def study(self, consent: str) -> Study:
        """Return the record of this study.

        Args:
            consent: the consent text.
        """
        first, second = (StudiedRun(run.folder.name, run.title, run.hasher.identity) for run in self.runs)
        return Study(self.design, (first, second), self.runs[0].data.split.hash, consent)

    def trials(self, session: int) -> list[PlannedTrial]:
        """Return the queries of a participant in order."""
        return plan_trials(self.pool.tolist(), self.design, session)

    def trial(self, place: int, planned: PlannedTrial) -> Trial:
        """Return the lists of a planned query."""
        # Both runs share one random order of ties, so that they show the same tied items in the same order.
        lists = [self._rank(run, planned) for run in self.runs]
        if planned.mode == INTERLEAVED:
            generator = torch.Generator().manual_seed(planned.seed)
            ids, teams = team_draft(lists[0][None], lists[1][None], generator)
            items = zip(ids[0].tolist(), teams[0].tolist(), strict=True)
            return Trial(place, planned.query, planned.mode, (tuple(ShownItem(item, run) for item, run in items),))
        sides = (planned.left, 1 - planned.left)
        shown = tuple(tuple(ShownItem(item, run) for item in lists[run].tolist()) for run in sides)
        return Trial(place, planned.query, planned.mode, shown)

    def describe_item(self, row: int, view: str) -> dict[str, Any]:
        """Describe an item by its picture or text in one view or both; without these, by its classes."""
        items = self.items
        words = "" if items.texts is None or view == IMAGE else items.texts[row]
        has_picture = items.images is not None and view != TEXT
        name = format_classes(items.labels, items.class_names, row) or f"item {row}"
        return {
            "picture": f"/api/items/{row}.png" if has_picture else None,
            "words": shorten(words, TEXT_CHARACTERS),
            "name": "" if has_picture or words else name,
        }

    def describe(self, trial: Trial) -> dict[str, Any]:
        """Describe a trial for the page, without the runs."""
        return {
            "place": trial.place,
            "mode": trial.mode,
            "query": self.describe_item(trial.query, self.asking),
            "lists": [[self.describe_item(shown.item, self.searched) for shown in items] for items in trial.lists],
        }

    def _rank(self, run: ServedRun, planned: PlannedTrial) -> torch.Tensor:
        """Return rows of the nearest items of a run in the data set, int64 (K,)."""
        codes = run.searched[self.searched]
        query = encode_item(run, planned.query, self.asking)
        generator = torch.Generator().manual_seed(planned.seed)
        depth = min(self.design.depth, len(codes))
        rows = rank_lists(AutoEngine(), query.code, codes.codes, codes.distance, depth, generator)[0]
        return torch.as_tensor(run.database.ids[codes.positions[rows]])


def check_comparable(runs: Sequence[ServedRun]) -> None:
    """Raise an error if the lists of the runs for one query cannot be compared.

    Raises:
        InvalidInputError: there are not two runs, or their data, splits or queries differ.
    """
    if len(runs) != 2:
        raise InvalidInputError(f"runs={len(runs)}; expected two, of the same data and split.")
    first, second = runs
    for name, value, second_value in (
        ("data", first.collection, second.collection),
        ("split", first.data.split.hash, second.data.split.hash),
        ("queries", first.query_rows.tolist(), second.query_rows.tolist()),
        ("database", first.database.ids.tolist(), second.database.ids.tolist()),
        ("views", list(first.searched), list(second.searched)),
    ):
        if value != second_value:
            raise InvalidInputError(
                f"{first.folder} and {second.folder} differ in {name}; a study needs two runs of the same data, "
                "protocol, seed and score."
            )


def choose_direction(runs: Sequence[ServedRun], direction: str) -> tuple[str, str]:
    """Return the query view and the searched view.

    Raises:
        InvalidInputError: the runs lack the direction.
    """
    directions = get_directions(runs[0].hasher)
    if len(directions) == 1:
        if direction:
            raise InvalidInputError(f"direction={direction!r}; these runs have one view: leave --direction out.")
        return directions[0]
    by_name = {direction_name(*views): views for views in directions}
    check_choice(direction, by_name, "direction")
    return by_name[direction]
