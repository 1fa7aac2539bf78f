"""deephash publish: the files of a run's hasher with its figures in the card, in a folder or on the hub."""

import json

import numpy as np
import pytest

from deephash import load


@pytest.fixture
def row(fitted_run):
    return json.loads((fitted_run / "metrics.json").read_text(encoding="utf-8"))


def test_a_run_is_written_with_its_figures(fitted_run, row, deephash, tmp_path):
    done = deephash("publish", str(fitted_run), "me/digits", "--license", "mit", "--folder", str(tmp_path / "out"))
    assert (done.status, done.err) == (0, "")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    found = next(line for line in card.splitlines() if line.startswith("| mAP |"))
    metrics = row["metrics"]
    cells = [cell.strip() for cell in found.strip("|").split("|")]
    assert [cells[1], *cells[3:]] == [f"{metrics[name]:.4f}" for name in ("mAP", "mAP_worst", "mAP_best")]
    low, high = (float(x) for x in cells[2].split(" to "))
    assert low < metrics["mAP"] < high
    assert 'Hasher.from_pretrained("me/digits")' in card
    assert load(tmp_path / "out").identity == load(fitted_run).identity


def test_a_published_folder_serves_every_deephash(fitted_run, deephash, tmp_path, digits):
    folder = tmp_path / "out"
    deephash("publish", str(fitted_run), "me/digits", "--license", "mit", "--folder", str(folder))
    np.save(tmp_path / "digits.npy", digits[:50])
    done = deephash("encode", str(folder), str(tmp_path / "digits.npy"), str(tmp_path / "codes.npy"))
    assert done.status == 0, done.err
    expected = load(fitted_run).encode(digits[:50])
    assert (np.load(tmp_path / "codes.npy") == expected.numpy()).all()
    assert "ITQ" in deephash("info", str(folder)).out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["me/digits"], "license"),
        (["digits", "--license", "mit"], "repository='digits'; expected user/name"),
    ],
)
def test_wrong_use_gets_one_line(fitted_run, deephash, arguments, message):
    done = deephash("publish", str(fitted_run), *arguments)
    assert done.status == 2
    assert message in done.err


def test_no_run_is_an_error(deephash, tmp_path):
    done = deephash(
        "publish", str(tmp_path / "none"), "me/digits", "--license", "mit", "--folder", str(tmp_path / "out")
    )
    assert done.status == 2
    assert "does not exist" in done.err
    assert not (tmp_path / "out").exists()


def test_the_folder_of_the_run_is_not_an_output(fitted_run, deephash):
    done = deephash("publish", str(fitted_run), "me/digits", "--license", "mit", "--folder", str(fitted_run))
    assert done.status == 2
    assert not (fitted_run / "README.md").exists()


@pytest.mark.parametrize(
    ("settings", "lines"),
    [
        (
            ["train=stream", "method=streaming_lda", "bits=8", "train.batch_size=1000", "train.checkpoints=2"],
            ["- stream: stationary", "- re-encoding: every", "| metric | value |", "| reencoded_items |"],
        ),
        (
            ["method=lsh", "bits=8", "protocol=five_way_small", "score=validation"],
            ["- queries: validation, not test", "interval over 250 queries", "# LSH, 8 bits"],
        ),
        (
            ["method=pcah", "train=joint", "loss=balance", "train.epochs=1", "encoder=mlp", "bits=8"],
            [
                "# MLP and PCAH, trained jointly by Balance, 8 bits",
                "Joint training changed the weights",
                "- method: pcah",
            ],
        ),
    ],
)
def test_the_card_of_each_kind_of_run(compose_config, deephash, tmp_path, settings, lines):
    from deephash.command_line.programs.train import train

    train(compose_config(*settings, "figures=false", "metrics.at=[10]"), tmp_path / "run")
    done = deephash("publish", str(tmp_path / "run"), "me/x", "--license", "mit", "--folder", str(tmp_path / "out"))
    assert (done.status, done.err) == (0, "")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert [line for line in lines if line not in card] == []
    assert load(tmp_path / "out").identity == load(tmp_path / "run").identity
