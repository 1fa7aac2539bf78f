"""A run that a page serves: its data, its hasher, and an index of its database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from omegaconf import OmegaConf
from torch import Tensor

from deephash.code_files.encoder_of import find_device
from deephash.code_files.index_codes import HasherInfo
from deephash.data.base import HashingDataModule
from deephash.data.items import Items, Part
from deephash.data.views import Views
from deephash.evaluation.fitted_truth import FittedTruth
from deephash.evaluation.learnt_codes import FUNCTIONS, LEARNT, LearntCodes, check_learnt, load_learnt
from deephash.evaluation.view_scores import encode_part, select_learnt_codes, select_roles
from deephash.hashers.hasher_views import AnyHasher
from deephash.hashers.loading import load
from deephash.io.instantiation import build
from deephash.io.run_folder import RunFolder
from deephash.report.summary import format_title
from deephash.training.run_data import read_run_data
from deephash.validation import InvalidInputError
from deephash.web.demo.searched_codes import SearchedCodes


@final
@dataclass(frozen=True)
class ServedRun:
    """A run that a page serves.

    Args:
        folder: run folder.
        row: its result row.
        data: its data module, set up.
        collection: key of the data set. Runs on the same data share the key, so that an item can be a query of each.
        hasher: hasher of one view or of two.
        truth: ground truth.
        device: device on which features are encoded.
        database: the searched items.
        query_rows: int64 (q,), rows of the run's own queries in the data set.
        searched: view → codes of the database; "" is the view of a run of one view.
    """

    folder: Path
    row: Mapping[str, Any]
    data: HashingDataModule
    collection: str
    hasher: AnyHasher
    truth: FittedTruth
    device: torch.device
    database: Part
    query_rows: Tensor
    searched: Mapping[str, SearchedCodes]

    @property
    def title(self) -> str:
        """Method, bits and data in words."""
        return format_title(self.row)

    @property
    def items(self) -> Items:
        """The whole data set."""
        return self.data.items

    def queries_with(self, view: str) -> Tensor:
        """Return rows of the run's own queries that have a view, int64."""
        features = self.items.features
        if not isinstance(features, Views):
            return self.query_rows
        return self.query_rows[features.present[view][self.query_rows]]


def load_runs(folders: Sequence[Path], device: str = "cpu") -> list[ServedRun]:
    """Load runs; data that several runs share are read once.

    Args:
        folders: folders of complete runs.
        device: device on which features are encoded; auto chooses a GPU if there is one.

    Raises:
        InvalidInputError: a folder holds no complete run, or its data are missing.
    """
    where = find_device(device)
    read: dict[str, Items] = {}
    parts: dict[tuple[str, str, str], Part] = {}
    return [load_run(folder, where, read, parts) for folder in folders]


def load_run(
    folder: Path, device: torch.device, read: dict[str, Items], parts: dict[tuple[str, str, str], Part]
) -> ServedRun:
    """Load a run.

    Args:
        folder: folder of a complete run.
        device: device on which features are encoded.
        read: data sets of earlier runs by their settings; that of this run is added.
        parts: databases of earlier runs by data, split and role; that of this run is added.
    """
    run = RunFolder(folder)
    run.check_complete()
    config = run.read_config()
    collection = OmegaConf.to_yaml(config.data)
    data = read_run_data(run, config, lambda data: data.take(read[collection]) if collection in read else None)
    read[collection] = data.items
    hasher: AnyHasher = load(run.hasher).to(device)
    is_learnt = config.metrics.get("database_codes", FUNCTIONS) == LEARNT
    learnt = check_learnt(load_learnt(run.hasher), hasher) if is_learnt else None
    query_role, database_role = select_roles(config.score)
    query_rows = torch.from_numpy(data.ids(query_role))
    if len(query_rows) == 0:
        raise InvalidInputError(
            f"{folder} was scored on items held out of its training part, which its split does not list; show a run "
            "with score=test."
        )
    key = (collection, data.split.hash, database_role)
    database = parts.setdefault(key, data.part(database_role))
    searched = encode_searched(hasher, database, device, learnt)
    truth = FittedTruth(build(config.truth), data)
    return ServedRun(folder, run.read_row(), data, collection, hasher, truth, device, database, query_rows, searched)


def encode_searched(
    hasher: AnyHasher, database: Part, device: torch.device, learnt: LearntCodes | None
) -> dict[str, SearchedCodes]:
    """Return the codes of a database by view.

    Args:
        hasher: hasher, on the device.
        database: items that are searched.
        device: device on which features are encoded.
        learnt: codes that the fit learnt, for runs that rank the database by them; None for codes of the hasher.
    """
    info = HasherInfo(hasher.identity, hasher.bits, hasher.distance)
    searched = {}
    for view, items in encode_part(hasher, database, device).items():
        coded = items if learnt is None else select_learnt_codes(learnt, items, database.ids)
        searched[view] = SearchedCodes(coded.codes.cpu(), items.positions.cpu(), info)
    return searched
