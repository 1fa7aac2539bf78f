"""Tables of docs/joint.md: joint training against the best two-step pipelines."""

from collections.abc import Callable
from functools import partial

from joint_results import RESULTS, comparison_table, rank_pipelines, read_record, variants_table


def table_of_runs(layout: Callable[..., str], name: str) -> str:
    """Return a table that one function makes from all runs of a result file."""
    return layout(read_record(RESULTS / f"{name}.json"))


TABLES = {
    "joint_best": partial(table_of_runs, comparison_table, "joint_best"),
    "joint_decoupled": partial(table_of_runs, rank_pipelines, "joint_decoupled"),
    "joint_map_causes": partial(table_of_runs, variants_table, "joint_map_causes"),
}
