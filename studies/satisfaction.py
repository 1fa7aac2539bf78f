"""Agreement of metrics with simulated users of lists and of pages of pictures, from the runs of sweeps.

python train.py -m experiment=satisfaction data.path=cifar10.npz seed='range(5)'
python train.py -m experiment=satisfaction_neighbours data.path=FOLDER
python studies/satisfaction.py multirun/satisfaction multirun/satisfaction_neighbours --output satisfaction

A system is a run; the runs of one split are a draw, and every draw has the same systems. The users and what is relevant
to them are in satisfaction_draws.py.

Writes into OUTPUT a JSON for each draw, which a repeated command reuses, and for each sweep a .md and a .png over its
draws with intervals by Student's t; for several sweeps also orders.md, their agreement on the order of metrics. With
--results, the figures of all draws also go into three result files in that folder: satisfaction.json, with the τ of
every metric and user, satisfaction_systems.json and satisfaction_gains.json.
"""

import argparse
import itertools
from collections import defaultdict
from pathlib import Path

import numpy as np
from result_files import write_results
from satisfaction_draws import GRID_USERS, INTERLEAVING, JUDGE, LIST_USERS, compute_sweep

from deephash.command_line.run_command import register_resolvers
from deephash.io.files import write_text
from deephash.metrics.confidence import mean_interval
from deephash.report.drawing import paper_style, save_figure
from deephash.report.tables import markdown_table
from deephash.satisfaction.agreement import kendall_tau

# Commands that make the result files.
COMMANDS = [
    "OMP_NUM_THREADS=1 python train.py -m experiment=satisfaction 'seed=range(5)'",
    "OMP_NUM_THREADS=1 python train.py -m experiment=satisfaction_neighbours",
    "OMP_NUM_THREADS=1 python studies/satisfaction.py multirun/satisfaction multirun/satisfaction_neighbours "
    "--output satisfaction --results studies/results",
]
# Users by the kind of page that they read.
PAGES = {"lists": (*LIST_USERS, INTERLEAVING), "grids": tuple(GRID_USERS)}


def find_misleading(names, means, felt, count=8):
    """Find the pairs of systems for which the order by mAP contradicts that by satisfaction most."""
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


def format_draws(values):
    """Format a mean with its 95 % interval by Student's t; for one draw only the figure."""
    values = [value for value in values if value is not None]
    if len(values) < 2:
        return f"{values[0]:.2f}" if values else "-"
    interval = mean_interval(values)
    return f"{interval.mean:.2f} ± {interval.half_width:.2f}"


def compute_mean_taus(figures, users):
    """Compute the mean τ of each metric over the given users in one draw: metric → number."""
    taus = defaultdict(list)
    for row in figures["agreement"]:
        if row["user"] in users:
            taus[row["metric"]].append(row["tau"])
    return {metric: float(np.mean(values)) for metric, values in taus.items()}


def compute_concordance(orders):
    """Compute Kendall's τ between the orders of the same metrics for all pairs of draws."""
    tables = [np.array(list(order.values())) for order in orders]
    return [kendall_tau(one, other) for one, other in itertools.combinations(tables, 2)]


def average_draws(draws, key):
    """Average figures over draws: name → (s,) for s systems."""
    return {name: np.mean([draw[key][name] for draw in draws], 0) for name in draws[0][key]}


def reduce_by_draw(draws, metric, users, field, reduce=np.mean):
    """Return a field of a metric reduced over users, for each draw."""
    found = (
        [row[field] for row in figures["agreement"] if row["metric"] == metric and row["user"] in users]
        for figures in draws
    )
    return [float(reduce([value for value in values if value is not None])) for values in found]


def build_metric_rows(draws, metrics):
    """Build the rows of the table of metrics, with separate columns for the users of lists and of grids."""
    return [
        [
            metric,
            *(
                format_draws(reduce_by_draw(draws, metric, users, "tau", reduce))
                for users in PAGES.values()
                for reduce in (np.mean, np.min)
            ),
            format_draws(reduce_by_draw(draws, metric, (INTERLEAVING,), "tau")),
            *(format_draws(reduce_by_draw(draws, metric, users, "overlap")) for users in PAGES.values()),
            *(format_draws(reduce_by_draw(draws, metric, users, "per query")) for users in PAGES.values()),
            format_draws([figures["separated"][metric] for figures in draws]),
        ]
        for metric in metrics
    ]


def format_leads(draws, users):
    """Format the lead of the best metric for some users over each other metric, and how many draws show it."""
    orders = [compute_mean_taus(figures, users) for figures in draws]
    metrics = sorted(orders[0], key=lambda metric: -np.mean([order[metric] for order in orders]))
    lead = {metric: [order[metrics[0]] - order[metric] for order in orders] for metric in metrics[1:]}
    rows = [[metric, format_draws(gaps), sum(gap > 0 for gap in gaps)] for metric, gaps in lead.items()]
    return markdown_table([f"{metrics[0]} leads", "τ, mean over users", "draws ahead"], rows, right=[1, 2])


def format_gains(draws):
    """Format the gain in a metric from which nine of ten users prefer a system."""
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
                    else format_draws([one[name] for one in found])
                    for name in row
                    if name != "queries"
                ),
            ]
        )
    return markdown_table(list(draws[0]["needed gain"][0]), rows)


def format_report(draws):
    """Format all tables of a sweep over its draws as Markdown."""
    every = [user for users in PAGES.values() for user in users]
    orders = [compute_mean_taus(figures, every) for figures in draws]
    metrics = sorted(orders[0], key=lambda metric: -np.mean([order[metric] for order in orders]))
    header = ["metric"]
    header += [f"{name}: {figure}" for name in PAGES for figure in ("τ, mean over users", "lowest")]
    header += ["τ with interleaving", *(f"{name}: overlap" for name in PAGES)]
    header += [*(f"{name}: τ by query" for name in PAGES), "separated"]
    parts = [f"{len(draws)} draws, {len(draws[0]['systems'])} systems.\n", "## Metrics\n"]
    parts.append(markdown_table(header, build_metric_rows(draws, metrics), right=range(1, len(header))))
    parts.append(
        "\nτ between the orders of systems by the users of lists and of grids: "
        f"{format_draws([figures['lists against grids'] for figures in draws])}.\n"
    )
    for name, users in PAGES.items():
        parts.append(f"\n## {name}\n")
        if len(draws) > 1:
            taus = compute_concordance([compute_mean_taus(figures, users) for figures in draws])
            parts.append(
                f"Order of the metrics, Kendall's τ between draws: mean {np.mean(taus):.2f}, lowest {min(taus):.2f}.\n"
            )
            parts.append(format_leads(draws, users))
    grid = [[m, *(float(np.mean(reduce_by_draw(draws, m, (user,), "tau"))) for user in every)] for m in metrics]
    parts += ["\n## τ by user\n", markdown_table(["metric", *every], grid, right=range(1, len(every) + 1))]
    apart = [
        [
            user,
            format_draws([figures["separated"][user] for figures in draws]),
            *(
                [format_draws([np.mean(figures[key][user]) for figures in draws]) for key in ("satisfied", "examined")]
                if user != INTERLEAVING
                else ["–", "–"]
            ),
        ]
        for user in every
    ]
    parts += [
        "\n## Pairs separated by users, and their sessions\n",
        markdown_table(["user", "share of pairs", "satisfied", "last rank examined"], apart, right=range(1, 4)),
    ]
    parts += ["\n## Gain needed\n", format_gains(draws)]
    for judge in (JUDGE, "grid"):
        wrong = find_misleading(
            draws[0]["systems"], average_draws(draws, "means"), average_draws(draws, "satisfied")[judge]
        )
        if wrong:
            shown = [[x if isinstance(x, str) else f"{x[0]:.3f} / {x[1]:.3f}" for x in row.values()] for row in wrong]
            parts += [f"\n## Misled by mAP, user: {judge}\n", markdown_table(list(wrong[0]), shown)]
    return "\n".join(parts) + "\n"


def draw_picture(draws, path):
    """Draw the τ of every metric with every user as a map, mean over draws."""
    rows = draws[0]["agreement"]
    metrics, users = ([*dict.fromkeys(row[key] for row in rows)] for key in ("metric", "user"))
    table = np.mean([[row["tau"] for row in figures["agreement"]] for figures in draws], 0)
    table = table.reshape(len(metrics), len(users))
    with paper_style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10.5, 5.6), layout="constrained")
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


def format_orders(sweeps):
    """Format each metric's τ in each sweep, and the sweeps' agreement on the order of metrics, as Markdown."""
    orders = {
        name: {
            metric: float(np.mean([compute_mean_taus(figures, users)[metric] for figures in draws]))
            for metric in draws[0]["means"]
        }
        for sweep, draws in sweeps.items()
        for name, users in ((f"{sweep}, {page}", users) for page, users in PAGES.items())
    }
    rows = [[metric, *(order[metric] for order in orders.values())] for metric in next(iter(orders.values()))]
    rows.sort(key=lambda row: -np.mean(row[1:]))
    table = markdown_table(["metric", *orders], rows, right=range(1, len(orders) + 1))
    agreed = [
        f"{one} and {other}: {kendall_tau(*(np.array(list(orders[name].values())) for name in (one, other))):.2f}"
        for one, other in itertools.combinations(orders, 2)
    ]
    return f"{table}\nKendall's τ between the orders of metrics: {'; '.join(agreed)}.\n"


def write_all_results(folder, sweeps, commands):
    """Write the result files of all draws: agreement, systems, needed gains."""
    every = [user for users in PAGES.values() for user in users]
    agreement, systems, gains = [], [], []
    for sweep, draws in sweeps.items():
        for figures in draws:
            draw = [sweep, figures["seed"]]
            table = {(row["metric"], row["user"]): row for row in figures["agreement"]}
            for metric in figures["means"]:
                rows = [table[metric, user] for user in every]
                means = (
                    reduce_by_draw([figures], metric, group, field)[0]
                    for field in ("overlap", "per query")
                    for group in PAGES.values()
                )
                agreement.append([*draw, metric, *(row["tau"] for row in rows), *means, figures["separated"][metric]])
            felt = [
                *(figures["satisfied"][judge] for judge in (JUDGE, "grid")),
                *(np.mean([figures["satisfied"][user] for user in users], 0) for users in (LIST_USERS, GRID_USERS)),
            ]
            columns = (figures["means"]["mAP"], figures["means"]["precision@10"], *felt)
            systems += [[*draw, *row] for row in zip(figures["systems"], *columns, strict=True)]
            gains += [[*draw, *row.values()] for row in figures["needed gain"]]
    groups = [f"{figure}, {page}" for figure in ("overlap", "τ by query") for page in PAGES]
    files = {
        "satisfaction": (
            ["sweep", "seed", "metric", *(f"τ, {user}" for user in every), *groups, "separated"],
            agreement,
        ),
        "satisfaction_systems": (
            ["sweep", "seed", "system", "mAP", "precision@10"]
            + [f"satisfied, {users}" for users in (JUDGE, "grid", "mean of list users", "mean of grid users")],
            systems,
        ),
        "satisfaction_gains": (["sweep", "seed", *next(iter(sweeps.values()))[0]["needed gain"][0]], gains),
    }
    for name, (fields, runs) in files.items():
        write_results(folder / f"{name}.json", fields, runs, commands)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweeps", type=Path, nargs="+", help="folders of sweeps of train.py, of different names")
    parser.add_argument("--output", type=Path, required=True, help="folder for the files")
    parser.add_argument("--results", type=Path, help="folder of result files, such as studies/results")
    arguments = parser.parse_args()
    register_resolvers()
    arguments.output.mkdir(parents=True, exist_ok=True)
    sweeps = {sweep.name: compute_sweep(sweep, arguments.output) for sweep in arguments.sweeps}
    for name, draws in sweeps.items():
        write_text(arguments.output / f"{name}.md", format_report(draws))
        draw_picture(draws, arguments.output / f"{name}.png")
    if arguments.results:
        write_all_results(arguments.results, sweeps, COMMANDS)
    if len(sweeps) > 1:
        write_text(arguments.output / "orders.md", format_orders(sweeps))
    print(f"{arguments.output}: {', '.join(sorted(path.name for path in arguments.output.iterdir()))}")


if __name__ == "__main__":
    main()
