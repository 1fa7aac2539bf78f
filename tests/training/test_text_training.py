"""Joint training from pairs of a query and a passage: it learns, and what it cannot learn from is an error."""

import json

import polars
import pytest
import torch

from deephash.command_line.programs.train import train
from deephash.data.protocols.official import Official
from deephash.data.text_descriptors.hashed_words import HashedWords
from deephash.data.text_pairs import TextPairs
from deephash.hashers.hasher import Hasher
from deephash.validation import InvalidInputError

TOPICS = 12
WORDS = "+data.text_descriptor={_target_: deephash.data.text_descriptors.HashedWords, dimension: 256}"
GIVEN = ("data=text_pairs", "~data.text_descriptor", WORDS, "method=pcah", "bits=24", "figures=false")
SCHEDULE = ("train.epochs=40", "train.validate_every=20", "train.batch_size=50", "train.keep_orthogonal=false")


def write_pairs(path):
    """Queries of a topic share no word with its passages, so that only pairs tell which belong together."""
    rows = [
        {"query": f"ask{i % TOPICS} sought{i % TOPICS} {i}", "passage": f"answer{i % TOPICS} told{i % TOPICS} text{i}"}
        for i in range(360)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return rows


@pytest.mark.parametrize("losses", ["contrastive", "[contrastive,nested]", "bpr"])
def test_it_learns_which_passages_answer(losses, compose_config, tmp_path):
    """A query of a topic that training knows finds passages of that topic, though it shares no word with them."""
    rows = write_pairs(tmp_path / "pairs.jsonl")
    relaxation = "growing_tanh" if losses == "bpr" else "tanh"
    nested = ("loss.nested.prefixes=[8,24]",) if "nested" in losses else ()
    given = (*GIVEN, f"data.path={tmp_path / 'pairs.jsonl'}", "metrics.at=[10]")
    start = train(compose_config(*given), tmp_path / "fitted")
    config = compose_config(
        *given,
        "train=joint",
        f"loss={losses}",
        f"relaxation={relaxation}",
        "train.optimizer.lr=0.03",
        *SCHEDULE,
        *nested,
    )
    trained = train(config, tmp_path / "trained")
    assert trained.row["sizes"]["query"] == 36

    def share_of_topic(folder):
        hasher = Hasher.load(folder / "hasher")
        describe = HashedWords(256).describe
        passages = hasher.encode(describe([row["passage"] for row in rows]))
        queries = hasher.encode(describe([f"ask{topic} sought{topic}" for topic in range(TOPICS)]))
        bits = torch.stack([(queries[:, None] ^ passages) >> bit & 1 for bit in range(8)]).sum((0, 3))
        nearest = bits.topk(10, largest=False).indices % TOPICS
        return float((nearest == torch.arange(TOPICS)[:, None]).float().mean())

    assert share_of_topic(start.folder) < 0.3
    assert share_of_topic(trained.folder) > 0.8


def test_pairs_are_split_by_queries_from_either_format(tmp_path):
    rows = write_pairs(tmp_path / "pairs.jsonl")
    rows += [{"query": rows[0]["query"], "passage": "another answer"}]
    polars.DataFrame(rows).rename({"query": "anchor", "passage": "positive"}).write_parquet(tmp_path / "p.parquet")
    data = TextPairs(
        Official(),
        path=str(tmp_path / "p.parquet"),
        text_descriptor=HashedWords(64),
        query_key="anchor",
        passage_key="positive",
    )
    data.setup()
    assert len(data.part("database")) == 361
    assert [len(data.part(role)) for role in ("query", "validation_query")] == [36, 18]
    judged = data.items.judgements
    first = data.items.texts.index(rows[0]["query"])
    assert [data.items.texts[item] for item in judged.items[judged.queries == first]] == [
        rows[0]["passage"],
        "another answer",
    ]
    training = data.get_training_pairs().queries.unique()
    assert len(training) == 360 - 36 - 18
    assert not torch.isin(training, torch.cat([data.part("query").ids, data.part("validation_query").ids])).any()
    pairs = data.get_training_pairs()
    contained = pairs.contain(pairs.queries[:20], pairs.items[:20])
    known = set(zip(pairs.queries.tolist(), pairs.items.tolist(), strict=True))
    assert contained.tolist() == [[(int(q), int(p)) in known for p in pairs.items[:20]] for q in pairs.queries[:20]]


WRONG = [
    ("pairs.csv", "a,b", r"ends in neither .jsonl nor .parquet"),
    ("absent.jsonl", None, r"absent.jsonl.* does not exist; give a .jsonl or .parquet file"),
    (
        "pairs.jsonl",
        '{"anchor": "a", "passage": "b"}',
        r"has no 'query', but anchor, passage; name the column: data.qu",
    ),
    ("pairs.jsonl", '{"query": "a", "passage": " "}', r'row 1, has passage=" "; expected a text'),
    ("pairs.jsonl", '{"query": "a", "passage": "b"}', r"has 1 distinct queries, of which test=0.1 and validation=0.05"),
]


@pytest.mark.parametrize(("name", "content", "message"), WRONG)
def test_malformed_pairs_are_one_line(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InvalidInputError, match=message) as caught:
        TextPairs(Official(), path=str(tmp_path / name), text_descriptor=HashedWords(8)).load()
    assert "\n" not in str(caught.value)


def test_impossible_settings_are_refused_before_the_fit(compose_config, tmp_path):
    with pytest.raises(InvalidInputError, match=r"test=0.7 and validation=0.4 leave no queries"):
        TextPairs(Official(), path="x.jsonl", text_descriptor=HashedWords(8), test=0.7, validation=0.4)
    with pytest.raises(InvalidInputError, match=r"test=0; expected a share of the queries, above 0 and below 1"):
        TextPairs(Official(), path="x.jsonl", text_descriptor=HashedWords(8), test=0)
    joint = ("bits=8", "train=joint", "figures=false", "train.epochs=1")
    with pytest.raises(InvalidInputError, match=r"loss=contrastive learns from pairs .* and the data have none"):
        train(compose_config(*joint, "loss=contrastive"), tmp_path / "digits")
    write_pairs(tmp_path / "pairs.jsonl")
    config = compose_config(*GIVEN, f"data.path={tmp_path / 'pairs.jsonl'}", *joint, "loss=[contrastive,balance]")
    with pytest.raises(InvalidInputError, match=r"another loss of contrastive, balance from the items of the training"):
        train(config, tmp_path / "mixed")
