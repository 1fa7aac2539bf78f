"""Do mAP and AUPRC track what users feel? Metrics of many systems against simulated users, from the runs of one sweep.

python train.py -m experiment=satisfaction data.path=cifar10.npz
python benchmarks/satisfaction.py multirun/satisfaction --output satisfaction

A system is a run; all share data and split. Users see lists of 50, tied items in random order (five orders, four
sessions each); relevant is the same class, and for graded figures 2 for the same class, 1 for the same of animals and
vehicles. Every user is a simulation, whose chances stand in USERS. Writes OUTPUT.md, OUTPUT.json and OUTPUT.png; some
ten minutes of one core for 54 systems of 1,000 queries.
"""

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
import torch

from deephash.files import read_json, write_json, write_text
from deephash.hasher import Hasher
from deephash.metrics.average_precision import average_precision, average_precision_at
from deephash.metrics.expected_reciprocal_rank import expected_reciprocal_rank
from deephash.metrics.expected_search_length import expected_search_length, scanning_seconds
from deephash.metrics.ndcg import ndcg_at
from deephash.metrics.pr_curve import auprc
from deephash.metrics.precision_recall import f1_within, precision_at
from deephash.metrics.rank_biased_precision import rank_biased_precision
from deephash.metrics.success import success_at
from deephash.protocols.base import Split
from deephash.ranking.auto import AutoEngine
from deephash.ranking.graded_counts import GradedCounts, graded_counts
from deephash.ranking.relevance import SharedLabel
from deephash.report.drawing import paper_style, save_figure
from deephash.report.tables import finite, markdown_table
from deephash.run_folder import RunFolder
from deephash.satisfaction.agreement import (
    kendall_tau,
    needed_gain,
    order_overlap,
    per_query_tau,
    preferring_users,
    randomisation_p,
    tau_interval,
)
from deephash.satisfaction.cascade import Cascade
from deephash.satisfaction.dynamic_bayesian import DynamicBayesian
from deephash.satisfaction.position_based import PositionBased
from deephash.satisfaction.ranked_lists import ranked_lists
from deephash.satisfaction.team_draft import credit, team_draft
from deephash.training.building import build_data
from deephash.training.command import register_resolvers

DEPTH, ORDERS, SESSIONS = 50, 5, 4
INTERLEAVED = 10
RESAMPLES, FLIPS, DRAWN_USERS = 200, 1000, 400
ANIMALS = {"bird", "cat", "deer", "dog", "frog", "horse"}
# Clicks as in navigational (sure) and informational (curious) search of the interleaving literature.
SURE, CURIOUS = (0.05, 0.95), (0.4, 0.9)
USERS = {
    "position-based": PositionBased(SURE),
    "position-based, looks far": PositionBased(SURE, decay=0.5),
    "position-based, curious": PositionBased(CURIOUS),
    "cascade": Cascade(SURE),
    "cascade, curious": Cascade(CURIOUS),
    "dynamic Bayesian": DynamicBayesian(SURE),
    "dynamic Bayesian, impatient": DynamicBayesian(SURE, perseverance=0.7),
    "dynamic Bayesian, patient": DynamicBayesian(SURE, perseverance=0.97),
    "dynamic Bayesian, hard to satisfy": DynamicBayesian(SURE, satisfaction=(0.0, 0.2)),
}
# Whose preference a gain in mAP is measured by, and whose clicks decide interleaving.
JUDGE = "dynamic Bayesian"


def load_systems(folder):
    """Names, codes and labels of a sweep's runs, which must share their data and split."""
    register_resolvers()
    systems, data, split = {}, None, None
    for path in sorted(folder.iterdir()):
        run = RunFolder(path)
        if not run.metrics.exists():
            continue
        row = read_json(run.metrics, "a result row")
        if data is None:
            data, split = build_data(run.read_config(), Split.load(run.split)), row["split"]
            data.prepare_data()
            data.setup()
        if row["split"] != split:
            raise SystemExit(f"{path} has split {row['split']} and others {split}; give runs of one split.")
        hasher = Hasher.load(run.hasher)
        codes = [hasher.encode(data.part(role).features) for role in ("query", "database")]
        systems[f"{row['method']} {row['bits']}"] = (hasher.distance, *codes)
        print(f"{len(systems)} systems", end="\r", flush=True)
    return systems, data


def measured(system, labels, graded):
    """Every metric of one system on each query, larger is better: name → (q,)."""
    distance, queries, database = system
    counts = AutoEngine().rank(queries, database, distance, SharedLabel(*labels))
    binary, grades = GradedCounts.of(counts), graded_counts(queries, database, distance, *graded)
    values = {
        "mAP": average_precision(counts),
        "AUPRC": auprc(counts),
        "mAP@1000": average_precision_at(counts, 1000),
        "mAP@100": average_precision_at(counts, 100),
        "mAP@10": average_precision_at(counts, 10),
        "precision@1": precision_at(counts, 1),
        "precision@10": precision_at(counts, 10),
        "precision@100": precision_at(counts, 100),
        "F1 within radius 2": f1_within(counts, 2),
        "nDCG@10": ndcg_at(binary, 10),
        "nDCG@100": ndcg_at(binary, 100),
        "nDCG@10, graded": ndcg_at(grades, 10),
        "ERR@20": expected_reciprocal_rank(binary, 20),
        "RBP .8": rank_biased_precision(binary, 0.8),
        "RBP .95": rank_biased_precision(binary, 0.95),
        "success@5": success_at(counts, 5),
        "- expected search length": -expected_search_length(counts),
        "- seconds to the 10th": -scanning_seconds(counts, 10),
    }
    return {name: value.numpy() for name, value in values.items()}


def sessions(system, labels, users, seed):
    """Satisfied sessions bool (q, m) and ranks examined (q,) of each user model, and the ids first shown (q, DEPTH)."""
    satisfied, examined = ({name: [] for name in users} for _ in range(2))
    shown = None
    for order in range(ORDERS):
        ids = ranked_lists(AutoEngine(), system[1], system[2], system[0], DEPTH, seeded(seed, order))
        shown = ids if shown is None else shown
        grades = (labels[1][ids] == labels[0][:, None]).long()
        for number, (name, user) in enumerate(users.items()):
            for session in range(SESSIONS):
                found = user.read(grades, seeded(seed, order, number, session))
                satisfied[name].append(found.satisfied)
                examined[name].append(found.examined)
    return (
        {name: torch.stack(values, 1).numpy() for name, values in satisfied.items()},
        {name: torch.stack(values, 1).double().mean(1).numpy() for name, values in examined.items()},
        shown,
    )


def seeded(*numbers):
    """A generator of its own for each draw, so that a part more changes no other."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1))


def interleaved(shown, labels):
    """Share of decided team-draft sessions that each system wins against the others, by query: (s, q)."""
    wins, decided = (np.zeros((len(shown), len(labels[0]))) for _ in range(2))
    for number, (one, other) in enumerate(itertools.combinations(range(len(shown)), 2)):
        generator = seeded(3, number)
        ids, teams = team_draft(shown[one][:, :INTERLEAVED], shown[other][:, :INTERLEAVED], generator)
        clicks = USERS[JUDGE].read((labels[1][ids] == labels[0][:, None]).long(), generator).clicks
        outcome = credit(clicks, teams).numpy()
        wins[one] += outcome == 1
        wins[other] += outcome == -1
        for system in (one, other):
            decided[system] += outcome != 0
    return np.where(decided > 0, wins / np.maximum(decided, 1), 0.5)


def agreement_rows(metrics, outcomes, rng):
    """τ of system orders with its interval, overlap of orders and mean τ by query, for each metric and user."""
    rows = []
    for metric, values in metrics.items():
        for user, felt in outcomes.items():
            means = values.mean(1), felt.mean(1)
            rows.append(
                {
                    "metric": metric,
                    "user": user,
                    "tau": kendall_tau(*means),
                    "interval": tau_interval(values, felt, RESAMPLES, rng),
                    "overlap": order_overlap(*means),
                    "per query": per_query_tau(values, felt),
                }
            )
    return rows


def discriminative_power(values, rng):
    """Share of pairs of systems that a paired randomisation test tells apart at .05."""
    pairs = np.array(list(itertools.combinations(range(len(values)), 2)))
    p = randomisation_p(values[pairs[:, 0]] - values[pairs[:, 1]], FLIPS, rng)
    return float((p < 0.05).mean())


def gain_rows(means, satisfied, rng):
    """The gain in a metric from which 90 % of users prefer, by how many queries a user asks before choosing."""
    pairs = list(itertools.combinations(range(len(satisfied)), 2))
    rows = []
    for queries in (1, 10, 50, 200):
        first = np.array([preferring_users(satisfied[a], satisfied[b], queries, DRAWN_USERS, rng) for a, b in pairs])
        row = {"queries": queries}
        for metric, values in means.items():
            gains = np.array([values[a] - values[b] for a, b in pairs])
            shares = np.where(gains >= 0, first, 1 - first)
            row[metric] = needed_gain(np.abs(gains), shares)
            row[f"{metric}: agreeing pairs"] = float((shares > 0.5).mean())
        rows.append(row)
    return rows


def misleading(names, means, felt, count=8):
    """The pairs whose mAP says most against what users felt: better, worse, gain in mAP, loss in satisfaction."""
    found = []
    for a, b in itertools.permutations(range(len(names)), 2):
        gain, loss = means["mAP"][a] - means["mAP"][b], felt[b] - felt[a]
        if gain > 0 and loss > 0:
            found.append((min(gain / np.ptp(means["mAP"]), loss / np.ptp(felt)), a, b))
    return [
        {
            "by mAP the better": names[a],
            "by users": names[b],
            "mAP": [means["mAP"][a], means["mAP"][b]],
            "precision@10": [means["precision@10"][a], means["precision@10"][b]],
            "satisfied": [felt[a], felt[b]],
        }
        for _, a, b in sorted(found, reverse=True)[:count]
    ]


def draw(metrics, outcomes, rows, path):
    """τ of every metric with every user as a map."""
    with paper_style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.5, 5.4), layout="constrained")
        axes = figure.subplots()
        table = np.array([row["tau"] for row in rows]).reshape(len(metrics), len(outcomes))
        shown = axes.imshow(table, vmin=min(0.5, table.min()), vmax=1, cmap="cividis", aspect="auto")
        axes.set_xticks(range(len(outcomes)), list(outcomes), rotation=40, ha="right")
        axes.set_yticks(range(len(metrics)), list(metrics))
        middle = (shown.norm.vmin + 1) / 2
        for (y, x), value in np.ndenumerate(table):
            colour = "black" if value > middle else "white"
            axes.text(x, y, f"{value:.2f}".lstrip("0"), ha="center", va="center", fontsize=7, color=colour)
        figure.colorbar(shown, label="Kendall's τ of the orders of systems")
        save_figure(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path, help="folder of a sweep of train.py")
    parser.add_argument("--output", type=Path, required=True, help="name of the files, without an ending")
    arguments = parser.parse_args()
    systems, data = load_systems(arguments.sweep)
    names = list(systems)
    labels = [data.part(role).labels for role in ("query", "database")]
    animal = torch.tensor([name in ANIMALS for name in data.items.class_names])
    graded = [
        torch.cat([torch.nn.functional.one_hot(x, 10).bool(), animal[x, None], ~animal[x, None]], 1) for x in labels
    ]

    tables, satisfied, examined, shown = [], [], [], []
    for number, system in enumerate(systems.values()):
        tables.append(measured(system, labels, graded))
        found = sessions(system, labels, USERS, number)
        for kept, value in zip((satisfied, examined, shown), found, strict=True):
            kept.append(value)
        print(f"{number + 1} of {len(names)} measured", end="\r", flush=True)
    rng = np.random.default_rng(0)
    metrics = {name: np.stack([table[name] for table in tables]) for name in tables[0]}
    outcomes = {name: np.stack([one[name].mean(1) for one in satisfied]) for name in USERS}
    outcomes["interleaving"] = interleaved(shown, labels)
    rows = agreement_rows(metrics, outcomes, rng)
    power = {name: discriminative_power(values, rng) for name, values in (metrics | outcomes).items()}
    means = {name: metrics[name].mean(1) for name in metrics}
    judged = [one[JUDGE] for one in satisfied]
    gains = gain_rows({name: means[name] for name in ("mAP", "precision@10")}, judged, rng)
    wrong = misleading(names, means, outcomes[JUDGE].mean(1))
    figures = {
        "systems": names,
        "means": {name: values.tolist() for name, values in means.items()},
        "satisfied": {name: values.mean(1).tolist() for name, values in outcomes.items()},
        "examined": {name: [float(one[name].mean()) for one in examined] for name in USERS},
        "agreement": rows,
        "discriminative power": power,
        "needed gain": gains,
        "misleading": wrong,
    }
    write_json(arguments.output.with_suffix(".json"), finite(json.loads(json.dumps(figures, default=float))))
    draw(metrics, outcomes, rows, arguments.output.with_suffix(".png"))
    write_text(arguments.output.with_suffix(".md"), report(metrics, outcomes, rows, power, gains, wrong))
    print(f"\n{arguments.output}.md, .json, .png")


def report(metrics, outcomes, rows, power, gains, wrong):
    """All tables as Markdown."""
    by_metric = {name: [row for row in rows if row["metric"] == name] for name in metrics}
    summary = [
        [
            name,
            np.mean([row["tau"] for row in found]),
            min(row["tau"] for row in found),
            f"{found[-1]['tau']:.2f} ({found[-1]['interval'][0]:.2f} to {found[-1]['interval'][1]:.2f})",
            np.mean([row["overlap"] for row in found]),
            np.mean([row["per query"] for row in found]),
            power[name],
        ]
        for name, found in by_metric.items()
    ]
    header = ["metric", "τ, mean over users", "lowest", "τ with interleaving", "overlap", "τ by query", "told apart"]
    parts = ["## Metrics\n", markdown_table(header, summary, right=range(1, 7))]
    header = ["metric", *outcomes]
    grid = [[name, *(row["tau"] for row in found)] for name, found in by_metric.items()]
    parts += ["\n## τ by user\n", markdown_table(header, grid, right=range(1, len(header)))]
    parts += [
        "\n## Told apart by users\n",
        markdown_table(["user", "share"], [[u, power[u]] for u in outcomes], right=[1]),
    ]
    parts += ["\n## Gain needed\n", markdown_table(list(gains[0]), [list(row.values()) for row in gains])]
    if wrong:
        cells = [[x if isinstance(x, str) else f"{x[0]:.3f} / {x[1]:.3f}" for x in row.values()] for row in wrong]
        parts += ["\n## Misled by mAP\n", markdown_table(list(wrong[0]), cells)]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
