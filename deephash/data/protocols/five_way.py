"""The five-way protocol: scored items are used neither for fitting nor for choosing settings."""

import numpy as np
from torch import Tensor

from deephash.data.protocols.base import Protocol, Split
from deephash.data.protocols.draws import Size, check_size, deal, find_strata


class FiveWay(Protocol):
    """Separate queries and databases for test and validation, and a separate training part.

    The improved protocol of Moran's thesis (2016): hyper-parameters are chosen with the validation queries against the
    validation database, projections and quantisers use only the training part, and test queries are scored against the
    test database. The thesis averages 10 runs with different seeds. The defaults are for the 60,000 images of CIFAR-10,
    of which 46,000 remain for the test database.

    Args:
        queries: test queries.
        validation_queries: queries for choosing hyper-parameters.
        train: items for fitting projections, quantisers and affinities.
        validation_database: items against which the validation queries are ranked.
        database: items against which the test queries are ranked; by default the rest.
        stratified: whether each part has the class proportions of the data, if items have one class each.

    Raises:
        InvalidInputError: an invalid size.
    """

    def __init__(
        self,
        queries: Size = 1000,
        validation_queries: Size = 1000,
        train: Size = 2000,
        validation_database: Size = 10000,
        database: Size = "rest",
        stratified: bool = True,
    ) -> None:
        self.sizes: dict[str, Size] = {
            "queries": queries,
            "validation_queries": validation_queries,
            "train": train,
            "validation_database": validation_database,
            "database": database,
        }
        for part, size in self.sizes.items():
            check_size(size, part)
        self.stratified = stratified

    def split(self, n: int, labels: Tensor | None, official: np.ndarray | None, seed: int) -> Split:
        """Draw a split from all n items; the publisher's parts are ignored."""
        rows = deal(self.sizes, find_strata(n, labels, self.stratified), seed)
        return Split(
            train=rows["train"],
            query=rows["queries"],
            database=rows["database"],
            validation_query=rows["validation_queries"],
            validation_database=rows["validation_database"],
        )
