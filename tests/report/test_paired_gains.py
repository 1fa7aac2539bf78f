"""Gains of joint training, paired by draw."""

import numpy as np
import pytest
from scipy import stats

from deephash.report.paired_gains import compute_gains, find_best, format_gains, rank_biserial
from deephash.validation import InvalidInputError


def row(train, seed, score, method="itq", bits=16, **more):
    named = {"method": method, "quantizer": "sbq", "encoder": "identity", "train": train, "bits": bits, "seed": seed}
    return named | {"split": f"split{seed}", "metrics": {"mAP": score}} | more


def sweep():
    draw = np.random.default_rng(0)
    rows = []
    for method, base, gain in (("itq", 0.2, 0.05), ("lsh", 0.15, 0.12)):
        for bits in (32, 16):
            for seed in range(10):
                level = base + bits / 1000 + 0.01 * draw.normal()
                rows.append(row("fit", seed, level, method, bits))
                rows.append(row("joint", seed, level + gain + 0.005 * draw.normal(), method, bits))
    return rows


def test_gains_are_paired_by_draw():
    rows = sweep()
    gains = compute_gains(rows, "mAP")
    assert [(gain.pipeline[0], gain.bits) for gain in gains] == [("itq", 16), ("itq", 32), ("lsh", 16), ("lsh", 32)]
    for gain in gains:
        of = {
            train: [r["metrics"]["mAP"] for r in rows if (r["method"], r["bits"]) == (gain.pipeline[0], gain.bits) and
                    r["train"] == train] for train in ("fit", "joint")
        }  # fmt: skip
        assert gain.draws == 10
        assert gain.before == pytest.approx(np.mean(of["fit"]))
        assert gain.after == pytest.approx(np.mean(of["joint"]))
        assert gain.p_value == pytest.approx(stats.wilcoxon(of["joint"], of["fit"]).pvalue)
        assert gain.effect == 1
    assert find_best(gains, "before")[16].pipeline[0] == "itq"
    assert find_best(gains, "after")[16].pipeline[0] == "lsh"


def test_only_common_draws_count():
    rows = [row("fit", seed, 0.1) for seed in range(5)] + [row("joint", seed, 0.2) for seed in (3, 4, 9)]
    rows.append(row("joint", 2, 0.9, split="another"))
    (gain,) = compute_gains(rows, "mAP")
    assert gain.draws == 2


def test_rank_biserial_against_pairs_of_ranks():
    assert rank_biserial(np.array([1.0, 2.0, 3.0])) == 1
    assert rank_biserial(np.array([-1.0, 0.0])) == -1
    assert rank_biserial(np.zeros(3)) == 0
    # Ranks 1, 2, 3 with signs +, -, +: (1 - 2 + 3) / 6.
    assert rank_biserial(np.array([0.1, -0.2, 0.3])) == pytest.approx(1 / 3)


def test_table_marks_the_best_of_each_side():
    table = format_gains(compute_gains(sweep(), "mAP"))
    lines = {tuple(cell.strip() for cell in line.split("|")[1:3]): line for line in table.splitlines()[2:]}
    assert lines["itq · sbq", "16"].count("**") == 2
    assert lines["lsh · sbq", "16"].count("**") == 2
    assert "+1.00" in lines["lsh · sbq", "32"]


def test_what_cannot_be_paired_is_refused():
    with pytest.raises(InvalidInputError, match="no pipeline has two draws of both train=fit and train=joint"):
        compute_gains([row("fit", 0, 0.1), row("fit", 1, 0.1)], "mAP")
    with pytest.raises(InvalidInputError, match="has two results of seed 0 with train=fit"):
        compute_gains([row("fit", 0, 0.1), row("fit", 0, 0.2)], "mAP")
