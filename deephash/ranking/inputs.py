"""Checks of the inputs of a ranking engine, each with a one-line message."""

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from deephash.codes import as_codes, check_codes
from deephash.ranking.distance import Asymmetric, Distance
from deephash.ranking.relevance import Neighbours, Relevance, count_items, count_queries
from deephash.validation import InvalidInputError, check_count

# Tables have one column per distance; more columns would fill the memory for any data.
MAX_DISTANCE = 2**24


def convert_codes(
    query_codes: Tensor | ArrayLike, database_codes: Tensor | ArrayLike, distance: Distance
) -> tuple[Tensor, Tensor]:
    """Convert queries and database, tensors or arrays, to tensors and check them as `check_ranked` does."""
    query_codes, database_codes = as_codes(query_codes, "query codes"), as_codes(database_codes, "database codes")
    check_ranked(query_codes, database_codes, distance)
    return query_codes, database_codes


def check_ranked(query_codes: Tensor, database_codes: Tensor, distance: Distance) -> None:
    """Raise an error for codes that `distance` cannot compare.

    Raises:
        InvalidInputError: the codes are not tensors, have the wrong dtype or width, have set padding bits or are on
            different devices; the weights are of another number of queries; or the largest distance exceeds 2^24.
    """
    for codes, name in ((query_codes, "query codes"), (database_codes, "database codes")):
        check_packed(codes, distance.code_bits, name)
    check_device(database_codes, query_codes, "database codes")
    if isinstance(distance, Asymmetric):
        if len(distance.weights) != len(query_codes):
            raise InvalidInputError(
                f"the asymmetric distance has weights of {len(distance.weights)} queries and there are "
                f"{len(query_codes)} query codes; pass both for the same queries."
            )
        check_device(distance.weights, query_codes, "weights of the asymmetric distance")
    if distance.maximum > MAX_DISTANCE:
        raise InvalidInputError(
            f"the largest distance is {distance.maximum}; rankings count up to {MAX_DISTANCE}: "
            "use fewer dimensions, or fewer levels in Asymmetric.from_margins."
        )


def check_packed(codes: Tensor, bits: int, name: str) -> None:
    """Raise an error unless codes are packed codes of `bits` bits, with padding bits of 0.

    Raises:
        InvalidInputError: the codes are not a tensor, or have the wrong dtype, width or padding.
    """
    if not isinstance(codes, Tensor):
        raise InvalidInputError(f"{name} are a {type(codes).__name__}; pass packed codes as a torch.Tensor.")
    check_codes(codes, bits, name)
    check_padding(codes, bits, name)


def check_padding(codes: Tensor, bits: int, name: str) -> None:
    """Raise an error for codes whose last byte has ones beyond their length.

    Raises:
        InvalidInputError: a padding bit is 1.
    """
    if bits % 8 and len(codes) and int(codes[:, -1].max()) >> (bits % 8):
        raise InvalidInputError(
            f"{name} have ones beyond bit {bits} in their last byte; pack them with deephash.codes.pack."
        )


def check_device(tensor: Tensor, query_codes: Tensor, name: str) -> None:
    """Raise an error for a tensor that is not on the device of the query codes.

    Raises:
        InvalidInputError: the devices differ.
    """
    if tensor.device != query_codes.device:
        raise InvalidInputError(
            f"{name} are on {tensor.device} and the query codes on {query_codes.device}; move them to one device."
        )


def check_relevance(relevance: Relevance, query_codes: Tensor, database_codes: Tensor) -> None:
    """Raise an error for a relevance that does not match the numbers of queries and items.

    Raises:
        InvalidInputError: another q, N or device, or neighbour ids that are not ascending within a query.
    """
    if count_queries(relevance) != len(query_codes):
        raise InvalidInputError(
            f"the relevance is of {count_queries(relevance)} queries and there are {len(query_codes)} query codes; "
            "pass both for the same queries."
        )
    if count_items(relevance) != len(database_codes):
        raise InvalidInputError(
            f"the relevance is of {count_items(relevance)} items and there are {len(database_codes)} database "
            "codes; pass both for the same database."
        )
    if isinstance(relevance, Neighbours):
        check_device(relevance.offsets, query_codes, "neighbour offsets")
        check_device(relevance.ids, query_codes, "neighbour ids")
        check_rising(relevance)
    else:
        check_device(relevance.query, query_codes, "query labels")
        check_device(relevance.database, query_codes, "database labels")


def check_rising(relevance: Neighbours) -> None:
    """Raise an error for neighbour ids that are not ascending and unique within a query.

    Raises:
        InvalidInputError: the message names the first such query.
    """
    falls = relevance.ids.diff() <= 0
    # Ids may fall from the last of one query to the first of the next.
    between = relevance.offsets[1:-1] - 1
    falls[between[(between >= 0) & (between < len(falls))]] = False
    if bool(falls.any()):
        entry = torch.nonzero(falls)[0] + 1
        query = int(torch.searchsorted(relevance.offsets, entry, right=True)) - 1
        raise InvalidInputError(
            f"the neighbour ids of query {query} are not ascending and unique; sort each query's ids and drop repeats."
        )


def check_neighbours_wanted(k: int, database_codes: Tensor) -> None:
    """Raise an error for a number of neighbours that exceeds the database.

    Raises:
        InvalidInputError: k is not an integer from 1 to N.
    """
    check_count(k, "k")
    if k > len(database_codes):
        raise InvalidInputError(f"k={k} exceeds the {len(database_codes)} items of the database; lower k.")
