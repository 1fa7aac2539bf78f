"""Tables of joint training against the best two-step pipelines: docs/joint.md."""

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import product
from statistics import fmean
from typing import Any

from result_files import format_figure, format_mean, group_by

from deephash.metrics.confidence import FEWEST_PAIRS, wilcoxon
from page_tables.layout import left_out, page_table, results

METRICS = {"AUPRC_micro": "AUPRC, micro", "mAP": "mAP"}
NAMES = {
    "bre": "BRE",
    "itq": "ITQ",
    "itq_cca": "ITQ+CCA",
    "ksh": "KSH",
    "grh": "GRH",
    "lsh": "LSH",
    "mhq": "MHQ",
    "npq": "NPQ",
    "npq_exact": "exact NPQ",
    "sbq": "SBQ",
    "hq": "HQ",
    "dbq": "DBQ",
    "vbq": "VBQ",
}
DATA = {"cifar10_gist": "CIFAR-10's GIST", "mnist5k": "MNIST", "siftsmall": "SIFT"}
NETWORKS = {
    "cifar10_59k": "5,000 labels: a convolution over GIST's grid, AP and class labels",
    "literature": "all labels: the same with fewer filters",
}


def name_pipeline(method: str, quantizer: str) -> str:
    """Return the name of a pipeline as a page prints it."""
    return f"{NAMES.get(method, method)} + {NAMES.get(quantizer, quantizer)}"


def describe(scores: Sequence[float]) -> str:
    """Format a mean with its 95 % t-interval and range."""
    return f"{format_mean(scores, 4)} ({format_figure(min(scores))} to {format_figure(max(scores))})"


def find_best(runs: list[dict[str, Any]], metric: str) -> list[tuple[str, dict[int, float]]]:
    """Return name and scores by draw of the best fit, and of the best joint training.

    The best pipeline has the highest mean over the draws that all pipelines have.

    Args:
        runs: runs of one code length, with their method, quantiser, mode and seed.
        metric: name of the metric.
    """
    scores = {
        name: {run["seed"]: run[metric] for run in found}
        for name, found in group_by(runs, "train", "method", "quantizer").items()
    }
    common = set.intersection(*(set(draws) for draws in scores.values()))
    best = []
    for train in ("fit", "joint"):
        names = [name for name in scores if name[0] == train]
        name = max(names, key=lambda name: fmean(scores[name][seed] for seed in common))
        best.append((name_pipeline(*name[1:]), scores[name]))
    return best


def compare(runs: list[dict[str, Any]], metric: str) -> tuple[str, ...]:
    """Return the cells that compare the best fit with the best joint training by one metric, paired by draw."""
    (fitted, fit), (trained, joint) = find_best(runs, metric)
    before, after, *gain = compare_draws(fit, joint)
    return f"{fitted}: {before}", f"from {trained}: {after}", *gain


def compare_draws(one: dict[int, float], other: dict[int, float]) -> tuple[str, ...]:
    """Return the cells that compare scores on common draws: both means, the gain, the number of better draws, and p.

    Args:
        one: scores by seed before training.
        other: scores by seed after training.
    """
    seeds = sorted(one.keys() & other.keys())
    before, after = [one[seed] for seed in seeds], [other[seed] for seed in seeds]
    gains = [after - before for before, after in zip(before, after, strict=True)]
    p_value = format_figure(wilcoxon(after, before).p_value) if len(seeds) >= FEWEST_PAIRS and any(gains) else "–"
    return (
        describe(before),
        describe(after),
        f"{format_mean(gains, 4)} ({100 * (fmean(after) / fmean(before) - 1):+.1f} %)",
        f"{sum(gain > 0 for gain in gains)} of {len(seeds)}",
        p_value,
    )


def joint_best() -> str:
    """Return joint training against the best two-step pipeline of each metric and length."""
    by_bits = sorted(group_by(results("joint_best").select(), "bits").items())
    rows = [
        (title, str(bits), *compare(runs, metric)) for metric, title in METRICS.items() for (bits,), runs in by_bits
    ]
    return page_table(("", "bits", "best fit", "best joint training", "gain", "better in", "p"), rows, (1,))


def rank_pipelines(runs: Iterable[dict[str, Any]], metric: str, most: int = 5) -> str:
    """Format the best pipelines by their mean, among those with the largest number of draws."""
    scores = {
        name: [run[metric] for run in found] for name, found in group_by(list(runs), "method", "quantizer").items()
    }
    draws = max(map(len, scores.values()))
    means = {name: fmean(found) for name, found in scores.items() if len(found) == draws}
    ranked = sorted(means, key=lambda name: -means[name])[:most]
    return ", ".join(f"{name_pipeline(*name)} {format_figure(means[name])}" for name in ranked)


def joint_decoupled() -> str:
    """Return the best two-step pipelines on validation queries."""
    by_bits = sorted(group_by(results("joint_decoupled").select(), "bits").items())
    rows = [
        (title, str(bits), rank_pipelines(runs, metric))
        for metric, title in METRICS.items()
        for (bits,), runs in by_bits
    ]
    return page_table(("", "bits", "best on validation queries, mean of two draws"), rows, (1,))


def joint_pairs() -> str:
    """Return pipelines whose projection is fitted from pairs beside ITQ's, on validation queries, by draw."""
    lines = [("ITQ", "joint_decoupled", {"method": "itq"}), ("KSH", "joint_decoupled_ksh", {})]
    for initial in ("ITQ", "LSH"):
        chosen = {"projection.initial._target_": f"deephash.projections.{initial}"}
        lines.append((f"GRH from {initial}", "joint_decoupled_grh", chosen))
    rows = []
    for bits, (name, file, chosen), quantizer in product((16, 32, 64), lines, ("npq_exact", "npq", "mhq")):
        runs = sorted(results(file).find(quantizer=quantizer, bits=bits, **chosen), key=lambda run: run["seed"])
        scores = (" / ".join(format_figure(run[metric]) for run in runs) for metric in METRICS)
        rows += [(f"{name} + {NAMES[quantizer]}", str(bits), *scores)] if runs else []
    return page_table(("draw 100 / draw 101", "bits", *METRICS.values()), rows, (1, 2, 3))


def joint_grh() -> str:
    """Return micro AUPRC at 16 bits of GRH from ITQ beside joint training from ITQ + exact NPQ, paired by draw."""
    fit, joint = (
        results("joint_best").scores("AUPRC_micro", bits=16, method="itq", quantizer="npq_exact", train=train)
        for train in ("fit", "joint")
    )
    scores = {"ITQ + exact NPQ": fit}
    for train, quantizer in (("fit", "npq_exact"), ("fit", "npq"), ("joint", "npq_exact")):
        name = f"{'joint training from ' if train == 'joint' else ''}GRH from ITQ + {NAMES[quantizer]}"
        scores[name] = results("joint_best_grh").scores("AUPRC_micro", bits=16, quantizer=quantizer, train=train)
    rows = []
    for name, draws in scores.items():
        _, _, above, better, _ = compare_draws(fit, draws)
        before, _, *gain = compare_draws(draws, joint)
        rows.append((name, before, *(("", "") if draws is fit else (above, better)), *gain))
    before_joint = ("16 bits", "AUPRC, micro", "above ITQ + exact NPQ by", "better in")
    return page_table((*before_joint, "joint training is above it by", "better in", "p"), rows)


def joint_labels() -> str:
    """Return the mAP of joint training with labels against the fit that it starts from."""
    found = results("joint_labels")
    rows = []
    for (method, bits), _ in sorted(group_by(found.select(), "method", "bits").items()):
        fit, joint = (found.scores("mAP", method=method, bits=bits, train=train) for train in ("fit", "joint"))
        rows.append((NAMES.get(method, method), str(bits), *compare_draws(fit, joint)))
    return page_table(("from", "bits", "fit, mAP", "joint, mAP", "gain", "better in", "p"), rows, (1,))


def compare_fit(name: str, metric: str, decimals: int, **values: Any) -> tuple[str, ...]:
    """Return the cells that compare joint training with its fit on the same draws: both means, gain, better draws."""
    fit, joint = (results(name).scores(metric, train=train, **values) for train in ("fit", "joint"))
    seeds = sorted(fit.keys() & joint.keys())
    before, after = [fit[seed] for seed in seeds], [joint[seed] for seed in seeds]
    gains = [two - one for one, two in zip(before, after, strict=True)]
    return (
        format_mean(before, decimals),
        format_mean(after, decimals),
        f"{format_mean(gains, decimals)} ({100 * (fmean(after) / fmean(before) - 1):+.1f} %)",
        f"{sum(gain > 0 for gain in gains)} of {len(seeds)}",
    )


def joint_start() -> str:
    """Return joint training by pooled AP and AP against the fit that it starts from, by data set and code length."""
    rows = []
    for (data, method, quantizer, bits), _ in group_by(
        results("joint_start").select(), "data", "method", "quantizer", "bits"
    ).items():
        fixed = {"data": data, "method": method, "quantizer": quantizer, "bits": bits}
        cells = [cell for metric in METRICS for cell in compare_fit("joint_start", metric, 3, **fixed)]
        rows.append((DATA[data], name_pipeline(method, quantizer), str(bits), *cells))
    metrics = [title for metric in METRICS.values() for title in (f"{metric}: fit", "joint", "gain", "better in")]
    return page_table(("data", "start", "bits", *metrics), rows, (2,))


def joint_from(name: str, rows: dict[str, dict[str, Any]], **directions: str) -> str:
    """Return the mAP of joint training against the fit that it starts from.

    Args:
        name: name of the result file.
        rows: for each heading, the field values that select its runs.
        directions: the heading of each metric, by the part of its name before the slash; mAP alone if empty.
    """
    metrics = {f"{way}/mAP": f"{heading}: fit" for way, heading in directions.items()} or {"mAP": "fit, mAP"}
    table = []
    for heading, values in rows.items():
        for bits in sorted({run["bits"] for run in results(name).find(**values)}):
            cells = [cell for metric in metrics for cell in compare_fit(name, metric, 3, bits=bits, **values)]
            table.append((heading, str(bits), *cells))
    columns = [title for first in metrics.values() for title in (first, "joint", "gain", "better in")]
    return page_table(("from", "bits", *columns), table, (1,))


def joint_gist() -> str:
    """Return the mAP of networks that joint training trains on labelled GIST features."""
    rows = []
    for (protocol, bits), runs in group_by(results("joint_gist").select(score="test"), "protocol", "bits").items():
        rows.append((NETWORKS[protocol], str(bits), format_mean(run["mAP"] for run in runs), str(len(runs))))
    return page_table(("1,000 queries against 59,000", "bits", "mAP", "draws"), rows, (1, 3))


def joint_map_causes() -> str:
    """Return mAP and AUPRC of variants of joint training from ITQ + MHQ, best mAP first."""
    variants: dict[str, list[dict[str, Any]]] = {}
    for run in results("joint_map_causes").select():
        variants.setdefault(run["run"].rpartition("-seed")[0], []).append(run)
    means = {name: [fmean(run[metric] for run in found) for metric in METRICS] for name, found in variants.items()}
    ordered = sorted(means, key=lambda name: -means[name][-1])
    rows = [(f"`{name}`", *map(format_figure, means[name]), str(len(variants[name]))) for name in ordered]
    return page_table(("run", *METRICS.values(), "draws"), rows, (1, 2, 3))


TABLES = {
    "joint_best": joint_best,
    "joint_decoupled": joint_decoupled,
    "joint_gist": joint_gist,
    "joint_grh": joint_grh,
    "joint_labels": joint_labels,
    "joint_map_causes": joint_map_causes,
    "joint_pairs": joint_pairs,
    "joint_start": joint_start,
    "joint_wiki": partial(
        joint_from,
        "joint_wiki",
        {"RCMH": {"method": "rcmh"}, "SCM, sequential": {"method": "scm_sequential"}},
        image_to_text="image→text",
        text_to_image="text→image",
    ),
}


def gain_range(metric: str) -> str:
    """Return the smallest and largest gain of joint training over the best fit, as 7 to 17 %."""
    by_bits = group_by(results("joint_best").select(), "bits").values()
    gains = [float(compare(runs, metric)[2].partition("(")[2].rstrip(" %)")) for runs in by_bits]
    return f"{min(gains):.0f} to {max(gains):.0f} %"


def gain_of_draws(metric: str) -> str:
    """Return the smallest and largest relative gain of joint training over the best fit in a single draw."""
    gains = []
    for runs in group_by(results("joint_best").select(), "bits").values():
        (_, fit), (_, joint) = find_best(runs, metric)
        gains += [100 * (joint[seed] / fit[seed] - 1) for seed in fit]
    return f"{min(gains):.0f} to {max(gains):.0f} %"


def pooled_map() -> str:
    """Return the mean mAP before and after training by pooled AP, at each code length."""
    lengths = [
        " to ".join(
            format_figure(
                fmean(results("joint_best").scores("mAP", quantizer="npq_exact", train=train, bits=bits).values())
            )
            for train in ("fit", "joint")
        )
        for bits in (16, 32, 64)
    ]
    return f"{', '.join(lengths[:-1])} and {lengths[-1]}"


def start_beside_mhq() -> str:
    """Return the mean mAP at 32 bits of joint training from ITQ + NPQ beside that of the fit of ITQ + MHQ."""
    joint = results("joint_start").scores("mAP", data="cifar10_gist", train="joint", bits=32)
    fit = results("joint_best").scores("mAP", quantizer="mhq", train="fit", bits=32)
    below = sum(joint[seed] < fit[seed] for seed in joint)
    means = f"{format_figure(fmean(joint.values()))} against {format_figure(fmean(fit[seed] for seed in joint))}"
    return f"{means}, below in {below} of {len(joint)}"


FIGURES = {
    "joint_auprc_draws": partial(gain_of_draws, "AUPRC_micro"),
    "joint_auprc_gains": partial(gain_range, "AUPRC_micro"),
    "joint_pooled_map": pooled_map,
    "joint_start_mhq": start_beside_mhq,
    "joint_left_out": partial(left_out, "joint_best"),
}
