"""Agreement of metrics with simulated users over many systems, from the runs of sweeps.

python train.py -m experiment=satisfaction data.path=cifar10.npz seed='range(5)'
python train.py -m experiment=satisfaction_neighbours data.path=FOLDER
python studies/satisfaction.py multirun/satisfaction multirun/satisfaction_neighbours --output satisfaction

A system is a run; the runs of one split are a draw, and every draw has the same systems. Users see lists of 50 with
tied items in random order (five orders, four sessions each). The runs' truth defines relevance. In graded metrics,
grade 2 is the same class and 1 the same of animals and vehicles, or 2 the nearest quarter of the neighbours and 1 the
others. All users are simulated, with the probabilities in USERS.

Writes into OUTPUT a JSON for each draw, which a repeated command reuses, and for each sweep a .md and a .png over its
draws with intervals by Student's t; for several sweeps also orders.md, their agreement on the order of metrics.
"""

import argparse
import itertools
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from deephash.affinity.base import Affinity
from deephash.affinity.nearest_neighbours import NearestNeighbours
from deephash.command_line.run_command import register_resolvers
from deephash.data.base import HashingDataModule
from deephash.data.protocols.base import Split
from deephash.hashers.hasher import Hasher
from deephash.io.files import read_json, write_json, write_text
from deephash.io.instantiation import build
from deephash.io.run_folder import RunFolder
from deephash.metrics.average_precision import average_precision, average_precision_at
from deephash.metrics.confidence import mean_interval
from deephash.metrics.expected_reciprocal_rank import expected_reciprocal_rank
from deephash.metrics.expected_search_length import expected_search_length
from deephash.metrics.graded_ranking import GradedRanking
from deephash.metrics.ndcg import ndcg_at
from deephash.metrics.pr_curve import auprc
from deephash.metrics.precision_recall import f1_within, precision_at
from deephash.metrics.rank_biased_precision import rank_biased_precision
from deephash.metrics.scanning_seconds import scanning_seconds
from deephash.metrics.success import success_at
from deephash.ranking.auto_engine import AutoEngine
from deephash.ranking.graded_counts import GradedCounts
from deephash.ranking.relevance import Relevance, SharedLabel, is_relevant
from deephash.report.drawing import paper_style, save_figure
from deephash.report.tables import markdown_table, replace_nonfinite
from deephash.satisfaction.agreement import (
    kendall_tau,
    needed_gain,
    order_overlap,
    per_query_tau,
    preferring_users,
    randomisation_p,
)
from deephash.satisfaction.cascade import Cascade
from deephash.satisfaction.dynamic_bayesian import DynamicBayesian
from deephash.satisfaction.position_based import PositionBased
from deephash.satisfaction.ranked_lists import rank_lists
from deephash.satisfaction.team_draft import credit_clicks, team_draft
from deephash.training.building import build_data

DEPTH, ORDERS, SESSIONS = 50, 5, 4
INTERLEAVED = 10
FLIPS, DRAWN_USERS = 1000, 400
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


@dataclass(frozen=True)
class Draw:
    """One split, what is relevant in it, and how each system codes it.

    Args:
        systems: by name, codes of queries and database, and the distance that ranks them.
        relevant: what users want.
        grade_1: what has at least grade 1.
        grade_2: what has grade 2.
    """

    systems: dict[str, tuple]
    relevant: Relevance
    grade_1: Relevance
    grade_2: Relevance


def draws_of(folder):
    """Return the folders of a sweep's runs by the split that they share, in the order of seeds."""
    found = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if (run := RunFolder(path)).metrics.exists():
            row = read_json(run.metrics, "a result row")
            found[row["seed"], row["split"]].append((f"{row['method']} {row['quantizer']} {row['bits']}", run))
    draws = {split: dict(runs) for (_, split), runs in sorted(found.items(), key=lambda item: item[0])}
    if not draws or len({tuple(runs) for runs in draws.values()}) > 1:
        counts = {split[:8]: len(runs) for split, runs in draws.items()}
        raise SystemExit(f"{folder} has runs {counts} by split; every draw needs the same systems.")
    return draws


def load(runs):
    """Load a draw from its runs, by system."""
    first = next(iter(runs.values()))
    config = first.read_config()
    data, truth = build_data(config, Split.load(first.split)), build(config.truth)
    data.prepare_data()
    data.setup()
    systems = {}
    for name, run in runs.items():
        hasher = Hasher.load(run.hasher)
        systems[name] = (*(hasher.encode(data.part(role).features) for role in ("query", "database")), hasher.distance)
    return Draw(systems, *judged(data, truth))


def judged(data: HashingDataModule, truth: Affinity):
    """Return the relevant items, of grade 1 or higher, and of grade 2."""
    queries, database = data.part("query"), data.part("database")
    parts = queries.features, queries.labels, database.features, database.labels
    relevant = truth.relevance(*parts)
    if isinstance(truth, NearestNeighbours):
        return relevant, relevant, NearestNeighbours(max(1, truth.k // 4)).relevance(*parts)
    animal = torch.tensor([name in ANIMALS for name in data.items.class_names]).long()
    return relevant, SharedLabel(animal[queries.labels], animal[database.labels]), relevant


def measured(system, draw):
    """Compute every metric of one system on each query, higher is better: name → (q,)."""
    counts, *graded = (AutoEngine().rank(*system, wanted) for wanted in (draw.relevant, draw.grade_1, draw.grade_2))
    binary, grades = GradedRanking(GradedCounts.from_counts(counts)), GradedRanking(GradedCounts.from_nested(*graded))
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
        "RBP, p = .8": rank_biased_precision(binary, 0.8),
        "RBP, p = .95": rank_biased_precision(binary, 0.95),
        "success@5": success_at(binary, 5),
        "expected search length": -expected_search_length(binary),
        "seconds to the 10th relevant": -scanning_seconds(binary, 10),
    }
    return {name: value.numpy() for name, value in values.items()}


def sessions(system, relevant, users, seed):
    """Satisfied sessions bool (q, m) and ranks examined (q,) of each user model, and the ids first shown (q, DEPTH)."""
    satisfied, examined = ({name: [] for name in users} for _ in range(2))
    shown = None
    for order in range(ORDERS):
        ids = rank_lists(AutoEngine(), *system, DEPTH, seeded(seed, order))
        shown = ids if shown is None else shown
        grades = is_relevant(relevant, ids).long()
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
    """Return a separate generator for each draw, so that adding a part changes no other."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1))


def interleaved(shown, relevant):
    """Share of decided team-draft sessions that each system wins against the others, by query: (s, q)."""
    wins, decided = (np.zeros(shown.shape[:2]) for _ in range(2))
    good = torch.stack([is_relevant(relevant, ids) for ids in shown])
    for number, (one, other) in enumerate(itertools.combinations(range(len(shown)), 2)):
        generator = seeded(3, number)
        ids, teams = team_draft(shown[one], shown[other], generator)
        # Whether an item is relevant is known from the list that it came from.
        source = torch.where((teams == 0)[..., None], shown[one][:, None, :], shown[other][:, None, :])
        place = (source == ids[..., None]).int().argmax(2)
        grades = torch.where(teams == 0, good[one].gather(1, place), good[other].gather(1, place)).long()
        clicks = USERS[JUDGE].read(grades, generator).clicks
        outcome = credit_clicks(clicks, teams).numpy()
        wins[one] += outcome == 1
        wins[other] += outcome == -1
        for system in (one, other):
            decided[system] += outcome != 0
    return np.where(decided > 0, wins / np.maximum(decided, 1), 0.5)


def agreement_rows(metrics, outcomes):
    """τ of system orders, overlap of orders and mean τ by query, for each metric and user."""
    rows = []
    for metric, values in metrics.items():
        for user, felt in outcomes.items():
            means = values.mean(1), felt.mean(1)
            rows.append(
                {
                    "metric": metric,
                    "user": user,
                    "tau": kendall_tau(*means),
                    "overlap": order_overlap(*means),
                    "per query": per_query_tau(values, felt),
                }
            )
    return rows


def discriminative_power(values, rng):
    """Return the share of pairs of systems that a paired randomisation test separates at .05."""
    pairs = np.array(list(itertools.combinations(range(len(values)), 2)))
    p = randomisation_p(values[pairs[:, 0]] - values[pairs[:, 1]], FLIPS, rng)
    return float((p < 0.05).mean())


def gain_rows(means, satisfied, rng):
    """Compute the gain in a metric from which 90 % of users prefer a system, by the number of queries per user."""
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
    """Find the pairs whose mAP differs most from satisfaction: better, worse, gain in mAP, loss in satisfaction."""
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


def draw_figures(draw):
    """Compute all figures of one draw for its JSON."""
    tables, satisfied, examined, shown = [], [], [], []
    for number, (name, system) in enumerate(draw.systems.items()):
        tables.append(measured(system, draw))
        found = sessions(system, draw.relevant, USERS, number)
        for kept, value in zip((satisfied, examined, shown), found, strict=True):
            kept.append(value)
        print(f"{number + 1} of {len(draw.systems)} systems, {name:<30}", end="\r", flush=True)
    rng = np.random.default_rng(0)
    metrics = {name: np.stack([table[name] for table in tables]) for name in tables[0]}
    outcomes = {name: np.stack([one[name].mean(1) for one in satisfied]) for name in USERS}
    outcomes["interleaving"] = interleaved(torch.stack(shown)[:, :, :INTERLEAVED], draw.relevant)
    means = {name: metrics[name].mean(1) for name in metrics}
    judged_by = [one[JUDGE] for one in satisfied]
    return {
        "systems": list(draw.systems),
        "means": {name: values.tolist() for name, values in means.items()},
        "satisfied": {name: values.mean(1).tolist() for name, values in outcomes.items()},
        "examined": {name: [float(one[name].mean()) for one in examined] for name in USERS},
        "agreement": agreement_rows(metrics, outcomes),
        "separated": {name: discriminative_power(values, rng) for name, values in (metrics | outcomes).items()},
        "needed gain": gain_rows({name: means[name] for name in ("mAP", "precision@10")}, judged_by, rng),
    }


def figures_of(sweep, output):
    """Return the figures of a sweep's draws, and write those that have no file yet."""
    found = []
    for split, runs in draws_of(sweep).items():
        path = output / f"{sweep.name}-{split[:12]}.json"
        if not path.exists():
            figures = draw_figures(load(runs))
            write_json(path, replace_nonfinite(json.loads(json.dumps(figures, default=float))))
            print(f"\n{path}")
        found.append(read_json(path, "figures of a draw"))
    return found


def over_draws(values):
    """Format a mean with its 95 % interval by Student's t; for one draw only the figure."""
    values = [value for value in values if value is not None]
    if len(values) < 2:
        return f"{values[0]:.2f}" if values else "-"
    interval = mean_interval(values)
    return f"{interval.mean:.2f} ± {interval.half_width:.2f}"


def mean_taus(figures):
    """τ of each metric, mean over users: metric → number, of one draw."""
    taus = defaultdict(list)
    for row in figures["agreement"]:
        taus[row["metric"]].append(row["tau"])
    return {metric: float(np.mean(values)) for metric, values in taus.items()}


def concordance(orders):
    """Kendall's τ between orders of the same metrics: all pairs of draws."""
    tables = [np.array(list(order.values())) for order in orders]
    return [kendall_tau(one, other) for one, other in itertools.combinations(tables, 2)]


def mean_over(draws, key):
    """Mean over draws of figures by name and system: name → (s,)."""
    return {name: np.mean([draw[key][name] for draw in draws], 0) for name in draws[0][key]}


def report(draws):
    """Format all tables of a sweep over its draws as Markdown."""
    orders = [mean_taus(figures) for figures in draws]
    cells = {
        (row["metric"], row["user"]): [figures["agreement"][i] for figures in draws]
        for i, row in enumerate(draws[0]["agreement"])
    }
    metrics, users = ([*dict.fromkeys(key[i] for key in cells)] for i in range(2))
    metrics.sort(key=lambda metric: -np.mean([order[metric] for order in orders]))

    def by_draw(metric, field, reduce=np.mean):
        """A field of a metric reduced over users, for each draw."""
        return [
            float(
                reduce([cells[metric, user][i][field] for user in users if cells[metric, user][i][field] is not None])
            )
            for i in range(len(draws))
        ]

    summary = [
        [
            metric,
            over_draws(by_draw(metric, "tau")),
            over_draws(by_draw(metric, "tau", np.min)),
            over_draws([row["tau"] for row in cells[metric, "interleaving"]]),
            over_draws(by_draw(metric, "overlap")),
            over_draws(by_draw(metric, "per query")),
            over_draws([figures["separated"][metric] for figures in draws]),
        ]
        for metric in metrics
    ]
    header = ["metric", "τ, mean over users", "lowest", "τ with interleaving", "overlap", "τ by query", "separated"]
    parts = [f"{len(draws)} draws, {len(draws[0]['systems'])} systems.\n", "## Metrics\n"]
    parts.append(markdown_table(header, summary, right=range(1, 7)))
    if len(draws) > 1:
        taus = concordance(orders)
        parts.append(
            f"\nOrder of the metrics, Kendall's τ between draws: mean {np.mean(taus):.2f}, lowest {min(taus):.2f}.\n"
        )
        lead = [[order[metrics[0]] - order[metric] for order in orders] for metric in metrics[1:]]
        rows = [
            [metric, over_draws(gaps), sum(gap > 0 for gap in gaps)]
            for metric, gaps in zip(metrics[1:], lead, strict=True)
        ]
        parts.append(f"\n## Lead of {metrics[0]}\n")
        parts.append(markdown_table(["of", "τ, mean over users", "draws ahead"], rows, right=[1, 2]))
    grid = [[m, *(float(np.mean([row["tau"] for row in cells[m, user]])) for user in users)] for m in metrics]
    parts += ["\n## τ by user\n", markdown_table(["metric", *users], grid, right=range(1, len(users) + 1))]
    apart = [[user, over_draws([figures["separated"][user] for figures in draws])] for user in users]
    parts += ["\n## Pairs separated by users\n", markdown_table(["user", "share"], apart, right=[1])]
    rows = []
    for i, row in enumerate(draws[0]["needed gain"]):
        found = [figures["needed gain"][i] for figures in draws]
        enough = {name: [one[name] for one in found if one[name] is not None] for name in row if "agreeing" not in name}
        rows.append(
            [
                row["queries"],
                *(
                    f"{np.mean(enough[name]):.3f} in {len(enough[name])} of {len(draws)}"
                    if enough.get(name)
                    else "none"
                    if name in enough
                    else over_draws([one[name] for one in found])
                    for name in row
                    if name != "queries"
                ),
            ]
        )
    parts += ["\n## Gain needed\n", markdown_table(list(draws[0]["needed gain"][0]), rows)]
    wrong = misleading(draws[0]["systems"], mean_over(draws, "means"), mean_over(draws, "satisfied")[JUDGE])
    if wrong:
        shown = [[x if isinstance(x, str) else f"{x[0]:.3f} / {x[1]:.3f}" for x in row.values()] for row in wrong]
        parts += ["\n## Misled by mAP\n", markdown_table(list(wrong[0]), shown)]
    return "\n".join(parts) + "\n"


def picture(draws, path):
    """Draw the τ of every metric with every user as a map, mean over draws."""
    rows = draws[0]["agreement"]
    metrics, users = ([*dict.fromkeys(row[key] for row in rows)] for key in ("metric", "user"))
    table = np.mean([[row["tau"] for row in figures["agreement"]] for figures in draws], 0)
    table = table.reshape(len(metrics), len(users))
    with paper_style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.5, 5.4), layout="constrained")
        axes = figure.subplots()
        shown = axes.imshow(table, vmin=min(0.5, table.min()), vmax=1, cmap="cividis", aspect="auto")
        axes.set_xticks(range(len(users)), users, rotation=40, ha="right")
        axes.set_yticks(range(len(metrics)), metrics)
        middle = (shown.norm.vmin + 1) / 2
        for (y, x), value in np.ndenumerate(table):
            colour = "black" if value > middle else "white"
            axes.text(x, y, f"{value:.2f}".replace("0.", ".", 1), ha="center", va="center", fontsize=7, color=colour)
        figure.colorbar(shown, label="Kendall's τ of the orders of systems")
        save_figure(figure, path)


def orders_of_metrics(sweeps):
    """Format each metric's τ in each sweep, and the sweeps' agreement on the order of metrics, as Markdown."""
    orders = {
        name: {
            metric: float(np.mean([mean_taus(figures)[metric] for figures in draws])) for metric in draws[0]["means"]
        }
        for name, draws in sweeps.items()
    }
    rows = [[metric, *(order[metric] for order in orders.values())] for metric in next(iter(orders.values()))]
    rows.sort(key=lambda row: -np.mean(row[1:]))
    table = markdown_table(["metric", *orders], rows, right=range(1, len(orders) + 1))
    agreed = [
        f"{one} and {other}: {kendall_tau(*(np.array(list(orders[name].values())) for name in (one, other))):.2f}"
        for one, other in itertools.combinations(orders, 2)
    ]
    return f"{table}\nKendall's τ between the orders of metrics: {'; '.join(agreed)}.\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweeps", type=Path, nargs="+", help="folders of sweeps of train.py, of different names")
    parser.add_argument("--output", type=Path, required=True, help="folder for the files")
    arguments = parser.parse_args()
    register_resolvers()
    arguments.output.mkdir(parents=True, exist_ok=True)
    sweeps = {sweep.name: figures_of(sweep, arguments.output) for sweep in arguments.sweeps}
    for name, draws in sweeps.items():
        write_text(arguments.output / f"{name}.md", report(draws))
        picture(draws, arguments.output / f"{name}.png")
    if len(sweeps) > 1:
        write_text(arguments.output / "orders.md", orders_of_metrics(sweeps))
    print(f"{arguments.output}: {', '.join(sorted(path.name for path in arguments.output.iterdir()))}")


if __name__ == "__main__":
    main()
