"""Figures of one draw for satisfaction.py: metrics of every system, sessions of every user, and their agreement.

A system is a run; the runs of one split are a draw. Users see tied items in random order (five orders, four sessions
each): in lists of 50, or in pages of 100 pictures. The runs' truth defines relevance. In graded metrics, items of the
same class have grade 2, and other animals for an animal, or other vehicles for a vehicle, have grade 1. If neighbours
are relevant, the nearest quarter has grade 2 and the others grade 1. All users are simulated, with the probabilities in
LIST_USERS and GRID_USERS.
"""

import itertools
import json
import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch

from deephash.affinity.base import Affinity
from deephash.affinity.nearest_neighbours import NearestNeighbours
from deephash.data.base import HashingDataModule
from deephash.data.protocols.base import Split
from deephash.hashers.hasher import Hasher
from deephash.io.files import read_json, write_json
from deephash.io.instantiation import build
from deephash.io.run_folder import RunFolder
from deephash.metrics.average_precision import average_precision, average_precision_at
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
from deephash.report.tables import replace_nonfinite
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
from deephash.satisfaction.grid_browsing import GridBrowsing
from deephash.satisfaction.position_based import PositionBased
from deephash.satisfaction.ranked_lists import rank_lists
from deephash.satisfaction.team_draft import credit_clicks, team_draft
from deephash.training.building import build_data

LIST_DEPTH, PAGE_DEPTH, ORDERS, SESSIONS = 50, 100, 5, 4
INTERLEAVED = 10
FLIPS, DRAWN_USERS = 1000, 400
ANIMALS = {"bird", "cat", "deer", "dog", "frog", "horse"}
# Clicks as in navigational (sure) and informational (curious) search of the interleaving literature.
SURE, CURIOUS = (0.05, 0.95), (0.4, 0.9)
LIST_USERS = {
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
GRID_USERS = {
    "grid": GridBrowsing(),
    "grid, skips half of the rows": GridBrowsing(skipping=0.5),
    "grid, looks at the middle": GridBrowsing(spread=1.0),
    "grid, looks at all": GridBrowsing(spread=math.inf, skipping=0.0),
    "grid, impatient": GridBrowsing(perseverance=0.4),
    "grid, patient": GridBrowsing(perseverance=0.9),
    "grid, hard to satisfy": GridBrowsing(satisfaction=(0.0, 0.2)),
    "grid, wants five": GridBrowsing(wanted=5),
    "grid of ten columns": GridBrowsing(columns=10, spread=4.0),
}
USERS = LIST_USERS | GRID_USERS
INTERLEAVING = "interleaving"
# The user whose preference measures a gain in mAP, and whose clicks decide interleaving.
JUDGE = "dynamic Bayesian"


@dataclass(frozen=True)
class Draw:
    """Codes of each system and relevant items in one split.

    Args:
        systems: codes of queries and database and the distance that ranks them, by the name of the system.
        relevant: items that users want.
        grade_1: items of grade 1 or higher.
        grade_2: items of grade 2.
    """

    systems: dict[str, tuple]
    relevant: Relevance
    grade_1: Relevance
    grade_2: Relevance


def group_by_draw(folder):
    """Return the folders of a sweep's runs by seed and split, in the order of seeds."""
    found = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if (run := RunFolder(path)).metrics.exists():
            row = read_json(run.metrics, "a result row")
            found[row["seed"], row["split"]].append((f"{row['method']} {row['quantizer']} {row['bits']}", run))
    draws = {draw: dict(runs) for draw, runs in sorted(found.items(), key=lambda item: item[0])}
    if not draws or len({tuple(runs) for runs in draws.values()}) > 1:
        counts = {split[:8]: len(runs) for (_, split), runs in draws.items()}
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
    return Draw(systems, *judge_relevance(data, truth))


def judge_relevance(data: HashingDataModule, truth: Affinity):
    """Return the relevant items, of grade 1 or higher, and of grade 2."""
    queries, database = data.part("query"), data.part("database")
    parts = queries.features, queries.labels, database.features, database.labels
    relevant = truth.relevance(*parts)
    if isinstance(truth, NearestNeighbours):
        return relevant, relevant, NearestNeighbours(max(1, truth.k // 4)).relevance(*parts)
    animal = torch.tensor([name in ANIMALS for name in data.items.class_names]).long()
    return relevant, SharedLabel(animal[queries.labels], animal[database.labels]), relevant


def measure(system, draw):
    """Compute every metric of one system on each query, so that higher is better: name → (q,)."""
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


def simulate_sessions(system, relevant, users, seed):
    """Simulate the sessions of each user.

    Returns:
        Satisfied sessions by user, bool (q, m); mean last rank examined by user, float64 (q,); and the ids in the first
        order of ties, int64 (q, PAGE_DEPTH).
    """
    satisfied, examined = ({name: [] for name in users} for _ in range(2))
    shown = None
    for order in range(ORDERS):
        ids = rank_lists(AutoEngine(), *system, PAGE_DEPTH, make_generator(seed, order))
        shown = ids if shown is None else shown
        grades = is_relevant(relevant, ids).long()
        for number, (name, user) in enumerate(users.items()):
            for session in range(SESSIONS):
                found = user.read(
                    grades if name in GRID_USERS else grades[:, :LIST_DEPTH],
                    make_generator(seed, order, number, session),
                )
                satisfied[name].append(found.satisfied)
                examined[name].append(found.examined)
    return (
        {name: torch.stack(values, 1).numpy() for name, values in satisfied.items()},
        {name: torch.stack(values, 1).double().mean(1).numpy() for name, values in examined.items()},
        shown,
    )


def make_generator(*numbers):
    """Return a separate generator for each draw, so that adding a part changes no other."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1))


def interleave(shown, relevant):
    """Compute the share of decided team-draft sessions that each system wins against the others, by query: (s, q)."""
    wins, decided = (np.zeros(shown.shape[:2]) for _ in range(2))
    good = torch.stack([is_relevant(relevant, ids) for ids in shown])
    for number, (one, other) in enumerate(itertools.combinations(range(len(shown)), 2)):
        generator = make_generator(3, number)
        ids, teams = team_draft(shown[one], shown[other], generator)
        # The relevance of an item is looked up in the list that it came from.
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


def compute_agreement(metrics, outcomes):
    """Compute τ of system orders, overlap of orders and mean τ by query, for each metric and user."""
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


def compute_gains(means, satisfied, rng):
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


def compute_figures(draw):
    """Compute all figures of one draw for its JSON."""
    tables, satisfied, examined, shown = [], [], [], []
    for number, (name, system) in enumerate(draw.systems.items()):
        tables.append(measure(system, draw))
        found = simulate_sessions(system, draw.relevant, USERS, number)
        for kept, value in zip((satisfied, examined, shown), found, strict=True):
            kept.append(value)
        print(f"{number + 1} of {len(draw.systems)} systems, {name:<30}", end="\r", flush=True)
    rng = np.random.default_rng(0)
    metrics = {name: np.stack([table[name] for table in tables]) for name in tables[0]}
    outcomes = {name: np.stack([one[name].mean(1) for one in satisfied]) for name in USERS}
    outcomes[INTERLEAVING] = interleave(torch.stack(shown)[:, :, :INTERLEAVED], draw.relevant)
    means = {name: metrics[name].mean(1) for name in metrics}
    felt = {name: values.mean(1) for name, values in outcomes.items()}
    by_page = [np.mean([felt[name] for name in users], 0) for users in (LIST_USERS, GRID_USERS)]
    judged_by = [one[JUDGE] for one in satisfied]
    return {
        "systems": list(draw.systems),
        "means": {name: values.tolist() for name, values in means.items()},
        "satisfied": {name: values.tolist() for name, values in felt.items()},
        # Agreement of the two groups of users: a metric cannot be expected to agree better with both.
        "lists against grids": kendall_tau(*by_page),
        "examined": {name: [float(one[name].mean()) for one in examined] for name in USERS},
        "agreement": compute_agreement(metrics, outcomes),
        "separated": {name: discriminative_power(values, rng) for name, values in (metrics | outcomes).items()},
        "needed gain": compute_gains({name: means[name] for name in ("mAP", "precision@10")}, judged_by, rng),
    }


def compute_sweep(sweep, output):
    """Return the figures of the draws of a sweep; compute and write those that have no file yet."""
    found = []
    for (seed, split), runs in group_by_draw(sweep).items():
        path = output / f"{sweep.name}-{split[:12]}.json"
        if not path.exists():
            figures = compute_figures(load(runs)) | {"seed": seed}
            write_json(path, replace_nonfinite(json.loads(json.dumps(figures, default=float))))
            print(f"\n{path}")
        found.append(read_json(path, "figures of a draw"))
    return found
