"""Functions that treat hashers of one view and of two in the same way, for training and scoring."""

from collections.abc import Sequence
from typing import TypeAlias, cast

import torch
from torch import Tensor

from deephash.data.views import Views
from deephash.hashers.cross_modal_hasher import CrossModalHasher
from deephash.hashers.hasher import Hasher

AnyHasher: TypeAlias = Hasher | CrossModalHasher
# Name of the view of a hasher that has only one.
ONE_VIEW = ""


def get_views(hasher: AnyHasher) -> dict[str, Hasher]:
    """Return the hasher of each view by the view's name; the name for a hasher of one view is `ONE_VIEW`."""
    return {ONE_VIEW: hasher} if isinstance(hasher, Hasher) else hasher.views


def get_directions(hasher: AnyHasher) -> tuple[tuple[str, str], ...]:
    """Return all pairs of a query view and a database view: across views first, then within one."""
    names = tuple(get_views(hasher))
    pairs = [(query, database) for query in names for database in names]
    return tuple(sorted(pairs, key=lambda pair: pair[0] == pair[1]))


def encode_views(hasher: AnyHasher, features: Tensor | Views) -> dict[str, tuple[Tensor, Tensor]]:
    """Return packed codes by view, and the rows int64 of their items; items without a view have no code for it."""
    if isinstance(hasher, Hasher):
        codes = hasher.encode(cast(Tensor, features))
        return {ONE_VIEW: (codes, torch.arange(len(codes), device=codes.device))}
    views = cast(Views, features)
    return {name: (codes, views.rows(name)) for name, codes in hasher.encode(views).items()}


def calibrate_margins(hasher: AnyHasher, features: Tensor | Views) -> None:
    """Set the unit of the margins of each view's quantiser from training items."""
    for name, of_view in get_views(hasher).items():
        projections = of_view.project(select_view(features, name))
        of_view.quantizer.calibrate(projections.to(of_view.quantizer.is_fitted.device))


def relax_codes(hasher: AnyHasher, copies: Sequence[Tensor | Views]) -> list[tuple[Tensor, Tensor]]:
    """Compute the relaxed unary codes and the projections of each copy of the items, with gradients.

    All copies of a view are encoded in one pass, so that batch normalisation uses the same statistics for each. Codes
    of the second view follow those of the first as rows of one batch, so a loss over pairs compares codes across and
    within views.
    """
    by_view = []
    for name, of_view in get_views(hasher).items():
        projections = of_view.projection(of_view.encoder(torch.cat([select_view(copy, name) for copy in copies])))
        codes = of_view.quantizer.unary(projections).float()
        by_view.append(zip(codes.chunk(len(copies)), projections.float().chunk(len(copies)), strict=True))
    if len(by_view) == 1:
        return list(by_view[0])
    return [
        (torch.cat([codes for codes, _ in views]), torch.cat([projections for _, projections in views]))
        for views in zip(*by_view, strict=True)
    ]


def get_code_rows(hasher: AnyHasher, features: Tensor | Views) -> tuple[Tensor, Tensor | None]:
    """Return, for each code of `relax_codes`, the row of its item and the number of its view.

    Both are int64; the second is None for one view.
    """
    if isinstance(hasher, Hasher):
        rows = torch.arange(len(features), device=cast(Tensor, features).device)
        return rows, None
    views = cast(Views, features)
    by_view = [views.rows(name) for name in views.names]
    return torch.cat(by_view), torch.cat([torch.full_like(rows, number) for number, rows in enumerate(by_view)])


def select_view(features: Tensor | Views, name: str) -> Tensor:
    """Return the features of one view's items."""
    return features.of(name) if isinstance(features, Views) else features
