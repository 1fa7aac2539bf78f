"""Joint training on a stream: it raises the metric, remembers earlier items, and forgets them after a change."""

import pytest
import torch

from deephash.projections.itq_cca import ITQCCA
from deephash.projections.online.streaming_joint import StreamingJoint, nearest_shares_label
from deephash.validation import InvalidInputError


def data(seed=0, n=1200, d=16):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (n,), generator=generator)
    centres = torch.randn(4, d, generator=generator)
    # What varies most tells the classes apart least.
    return (0.7 * centres[labels] + torch.randn(n, d, generator=generator)) * torch.linspace(3, 0.5, d), labels


def precision(projection, features, labels):
    """Mean share of same-class items among the 20 nearest codes, ties in order."""
    signs = torch.where(projection(features) >= 0, 1.0, -1.0)
    similarity = signs @ signs.T
    similarity.fill_diagonal_(-1e9)
    nearest = similarity.topk(20).indices
    return float((labels[nearest] == labels[:, None]).float().mean())


def test_it_starts_as_itq_cca_s_codes_and_goes_on_above_them():
    features, labels = data()
    start = ITQCCA(16, 12).fit(features[:60], labels=labels[:60], generator=torch.Generator().manual_seed(0))
    projection = StreamingJoint(16, 12, rate=1e-9)
    projection.partial_fit(features[:60], labels[:60])
    agreement = ((projection(features) >= 0) == (start(features) >= 0)).float().mean()
    assert float(agreement) > 0.999
    projection = StreamingJoint(16, 12)
    for rows in torch.arange(900).split(60):
        projection.partial_fit(features[rows], labels[rows])
    assert precision(projection, features[900:], labels[900:]) > precision(start, features[900:], labels[900:]) + 0.03


def test_the_nearest_held_item_tells_the_signal():
    held = torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0]]).bool()
    codes = torch.tensor([[1, 1, 1, 0], [0, 0, 1, 0], [0, 1, 1, 1]]).bool()
    labels, held_labels = torch.tensor([[1, 0], [1, 0], [0, 1]]).bool(), torch.tensor([[1, 0], [1, 1]]).bool()
    assert nearest_shares_label(codes, labels, held, held_labels).tolist() == [1.0, 1.0, 0.0]


def test_a_detector_lets_go_of_the_past_at_a_change_alone():
    pytest.importorskip("river")
    features, labels = data()
    turned = data(seed=7)[0]
    projection = StreamingJoint(16, 12, detector="ADWIN", steps=1, replay=50, capacity=300)
    for rows in torch.arange(1200).split(120):
        projection.partial_fit(features[rows], labels[rows])
    assert int(projection.alarms) == 0
    assert int(projection.held) == 1200
    for rows in torch.arange(1200).split(120):
        projection.partial_fit(turned[rows], (labels[rows] + 1) % 4)
    assert int(projection.alarms) > 0
    assert int(projection.held) <= 1200  # of 2,400: what came since
    assert int(projection.told) <= 2000


def test_an_unknown_detector_is_refused():
    pytest.importorskip("river")
    with pytest.raises(InvalidInputError, match=r"detector=Nothing is not in river.drift; give ADWIN"):
        StreamingJoint(4, 4, detector="Nothing")
