"""PCAH of a stream equals PCAH, and follows a drift if old items are to be forgotten."""

import pytest
import torch

from deephash.projections.online.streaming_pcah import StreamingPCAH
from deephash.projections.pcah import PCAH
from deephash.validation import InvalidInputError


def features_of(n=600, d=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator).double() @ torch.randn(d, d, generator=generator).double() + 4


def streamed(features, size, **settings):
    projection = StreamingPCAH(features.shape[1], 5, **settings).double()
    for batch in features.split(size):
        projection.partial_fit(batch)
    return projection


@pytest.mark.parametrize("size", [7, 100, 600])
def test_without_decay_one_pass_gives_pcah_however_cut(size):
    features = features_of()
    batch = PCAH(12, 5).double().fit(features)
    stream = streamed(features, size)
    assert torch.allclose(stream.directions, batch.directions, atol=1e-9)
    assert torch.allclose(stream.mean, batch.mean, atol=1e-9)
    assert torch.allclose(StreamingPCAH(12, 5).double().fit(features)(features), batch(features), atol=1e-8)


def test_single_precision_gives_the_same_codes():
    features = features_of().float()
    stream, batch = StreamingPCAH(12, 5), PCAH(12, 5).fit(features)
    for part in features.split(50):
        stream.partial_fit(part)
    clear = batch(features).abs() > 1e-3
    assert torch.equal((stream(features) >= 0)[clear], (batch(features) >= 0)[clear])


def test_with_a_half_life_it_becomes_the_newest_items_pcah():
    old, new = features_of(seed=0), features_of(seed=5) - 8
    forgetting, keeping = (streamed(torch.cat([old, new]), 50, half_life=h) for h in (50.0, None))
    target = PCAH(12, 5).double().fit(new)

    def overlap(projection):
        return float((target.directions.T @ projection.directions).detach().square().sum()) / 5

    assert overlap(keeping) < 0.8 < 0.9 < overlap(forgetting)
    assert torch.allclose(forgetting.mean, new.mean(0), atol=2.0)


def test_a_first_batch_of_too_few_directions_is_refused():
    with pytest.raises(
        InvalidInputError, match="5 projections exceed the 3 directions in which the 4 items so far vary"
    ):
        StreamingPCAH(12, 5).partial_fit(features_of()[:4].float())
