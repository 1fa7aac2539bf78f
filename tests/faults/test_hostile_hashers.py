"""Malicious hashers: small files with the right identity, whose arguments or weights are huge or wrong."""

import json
import os
import subprocess
import sys

import pytest
import torch

import deephash
from deephash.compression.linear_decoder import LinearDecoder
from deephash.encoders.convolutional import Convolutional
from deephash.encoders.mlp import MLP
from deephash.hashers import storage
from deephash.hashers.hasher import Hasher
from deephash.hashers.outline import outline
from deephash.projections.fasthash import FastHash
from deephash.projections.itq import ITQ
from deephash.projections.lsh import LSH
from deephash.quantizers.mhq import MHQ
from deephash.quantizers.sbq import SBQ
from deephash.quantizers.vbq import VBQ
from deephash.validation import InvalidInputError

FEATURES = torch.rand(60, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def hasher():
    return Hasher(ITQ(8, 4, iterations=3), SBQ(4), MLP(8, [8])).fit(FEATURES)


def written(folder, hasher, edit):
    """A saved hasher whose description or weights are changed, with the identity that such a hasher has."""
    description, weights = hasher.describe(), dict(hasher.state_dict())
    edit(description, weights)
    storage.write(folder, description, weights)
    return folder


def argument(part, name, value):
    """A change of an argument of a part."""
    return lambda description, weights: description[part]["arguments"].update({name: value})


def weight(name, change):
    """A change of a weight."""
    return lambda description, weights: weights.update({name: change(weights[name])})


HUGE = {
    "iterations": argument("projection", "iterations", 10**9),
    "input_dim": argument("projection", "input_dim", 2 * 10**7),
    "output_dim": argument("projection", "output_dim", 2 * 10**7),
    "hidden": argument("encoder", "hidden", [2 * 10**7]),
    "layers": argument("encoder", "hidden", [8] * 100_000),
    "bits": argument("quantizer", "bits", 2**40),
    "words": argument("projection", "iterations", "many"),
    "nothing": argument("projection", "iterations", None),
    "negative": argument("projection", "output_dim", -4),
}
LOAD = """
import resource, sys
import torch, deephash
from deephash.encoders import mlp
from deephash.projections import itq
from deephash.quantizers import sbq
from deephash.validation import InvalidInputError
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (1 << 28), taken + (1 << 28)))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
for folder in sys.argv[1:]:
    try:
        deephash.load(folder)
    except InvalidInputError as refusal:
        print(refusal)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is limited as on Linux")
def test_arguments_that_would_fill_the_memory_are_refused_in_little(hasher, tmp_path):
    """All are loaded in a process that may take 256 MB more than it has."""
    folders = [str(written(tmp_path / name, hasher, edit)) for name, edit in HUGE.items()]
    done = subprocess.run([sys.executable, "-c", LOAD, *folders], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1500:]
    messages = done.stdout.splitlines()
    assert len(messages) == len(folders), messages
    for folder, message in zip(folders, messages, strict=True):
        assert "alloc" not in message, "it was noticed only when the memory was full"
        assert message.startswith(f"{folder} does not contain a complete hasher ("), message


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (argument("projection", "iterations", 10**9), r"quantisation_errors has shape \(3,\); expected \(10"),
        (argument("projection", "output_dim", 5), "gives 5 projections"),
        (
            weight("projection.mean", lambda old: old[:-1]),
            r"projection.mean has shape \(7,\); expected \(8,\)",
        ),
        (weight("projection.mean", lambda old: old.to(torch.int64)), "projection.mean has dtype torch.int64"),
        (weight("projection.mean", lambda old: old.to(torch.complex64)), "projection.mean has dtype torch.complex64"),
        (weight("projection.is_fitted", lambda old: old.float()), "projection.is_fitted has dtype torch.float32"),
        (lambda description, weights: weights.pop("projection.mean"), "lacks the weight projection.mean"),
        (lambda description, weights: weights.update(more=torch.ones(3)), "its parts lack, the weight more"),
    ],
)
def test_weights_that_do_not_fit_are_refused(hasher, tmp_path, edit, reason):
    with pytest.raises(InvalidInputError, match=reason):
        deephash.load(written(tmp_path, hasher, edit))


def test_an_outline_takes_no_memory_and_draws_nothing():
    state = torch.random.get_rng_state()
    outlined = outline(lambda _: MLP(10**6, [10**6]), {})
    assert outlined.layers[0].weight.shape == (10**6, 10**6)
    assert outlined.layers[0].weight.is_meta
    assert outline(lambda _: VBQ(65_536), {}).allocation.is_meta
    outline(lambda _: MLP(8, [8]), {})
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_hasher_that_is_loaded_has_all_its_tensors(hasher, tmp_path):
    hasher.save(tmp_path)
    loaded = Hasher.load(tmp_path)
    assert not any(tensor.is_meta for tensor in (*loaded.parameters(), *loaded.buffers()))
    assert torch.equal(loaded.encode(FEATURES), hasher.encode(FEATURES))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_hashers_of_other_precisions_load(hasher, tmp_path, dtype):
    import copy

    other = copy.deepcopy(hasher).to(dtype)
    other.save(tmp_path)
    loaded = Hasher.load(tmp_path)
    assert loaded.projection.mean.dtype == dtype
    assert loaded.identity == other.identity


@pytest.mark.parametrize(
    "made",
    [
        lambda: Hasher(LSH(8, 4), MHQ(8)),
        lambda: Hasher(LSH(8, 4), VBQ(4)),
        lambda: Hasher(FastHash(8, 4, trees=3, depth=2), SBQ(4)),
        lambda: Hasher(LSH(4, 4), SBQ(4), Convolutional(512, widths=[4], channels=2)),
    ],
    ids=["mhq", "vbq", "fasthash", "convolutional"],
)
def test_every_number_of_a_description_may_be_huge(made, tmp_path):
    """Whatever number is replaced, the hasher loads or is refused in one line, without the memory that it claims."""
    original = made()
    for part in original.modules():
        for name, buffer in part.named_buffers(recurse=False):
            if name == "is_fitted":
                buffer.fill_(True)
    description, weights = original.describe(), dict(original.state_dict())
    places = list(numbers(description))
    assert len(places) > 3
    for place in places:
        for value in (10**9, 2**62, -1, 1e300):
            changed = json.loads(json.dumps(description))
            target = changed
            for step in place[:-1]:
                target = target[step]
            target[place[-1]] = value
            storage.write(tmp_path, changed, weights)
            try:
                loaded = Hasher.load(tmp_path)
            except InvalidInputError as refusal:
                assert "\n" not in str(refusal)  # noqa: PT017
                assert "alloc" not in str(refusal)  # noqa: PT017
            else:
                assert sum(tensor.nbytes for tensor in loaded.state_dict().values()) < 1 << 20


def numbers(value, place=()):
    """The places of all numbers among arguments, as paths of keys."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        if isinstance(inner, dict | list):
            yield from numbers(inner, (*place, key))
        elif not isinstance(inner, bool | str | None) and "sizes" not in place:
            yield (*place, key)


def test_a_decoder_of_wrong_tensors_is_refused(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "decoder.safetensors"
    for parts in (
        {"offset": torch.ones(4)},
        {"offset": torch.ones(4), "directions": torch.ones(3, 5)},
        {"offset": torch.ones(4, dtype=torch.int64), "directions": torch.ones(3, 4)},
        {"offset": torch.ones(4), "directions": torch.ones(3, 4, dtype=torch.complex64)},
        {"offset": torch.ones(4), "directions": torch.ones(0, 4)},
        {"offset": torch.full((4,), torch.nan), "directions": torch.ones(3, 4)},
    ):
        save_file(parts, path)
        with pytest.raises(InvalidInputError, match=r"is not readable as a decoder|offset|directions"):
            LinearDecoder.load(path)
