"""Tables of docs/streams.md: every method under every policy, and the cost of refitting."""

from functools import partial
from itertools import pairwise
from statistics import fmean
from typing import Any

from result_files import format_figure, format_mean

from deephash.metrics.confidence import wilcoxon
from page_tables.layout import page_table, results

STREAMS = {"new_classes": "new classes", "recurring": "recurring", "feature_drift": "rotation"}
POLICIES = ("never", "budget", "on_drift", "every", "compatible")
LINES = {
    "streaming_lda": "streaming LDA",
    "streaming_lda_priors": "streaming LDA, recent priors",
    "streaming_itq_cca": "streaming ITQ+CCA",
    "itq_cca": "ITQ+CCA, refitted every 1,000 items",
    "hcoh": "HCOH",
    "osuphash": "OSupHash",
    "streaming_itq": "streaming ITQ",
    "osh": "OSH",
    "okh": "OKH",
    "online_mihash": "online MIHash",
    "adapthash": "AdaptHash",
    "lsh": "LSH",
}
COSTS = {"learn_seconds": "processor seconds of learning", "reencoded_items": "re-encoded items"}
ROTATION = "stream.kind=rotation stream.size=90"
SEED = 10
DRAWS = tuple(range(10, 20))  # of the best lines
BEST = ("streaming_lda", "every")


def policies_table(stream: str) -> str:
    """Return the area of every method under every policy, in one draw; methods in the order of their best policy."""
    areas = {
        line: {
            run["reencoding"]: run["area"]
            for run in results("streams_policies").find(line=line, stream=stream, seed=SEED)
        }
        for line in LINES
    }
    ordered = sorted((line for line in LINES if areas[line]), key=lambda line: -max(areas[line].values()))
    rows = [
        (LINES[line], *(format_figure(areas[line][p]) if p in areas[line] else "" for p in POLICIES))
        for line in ordered
    ]
    return page_table((STREAMS[stream], *(f"`{policy}`" for policy in POLICIES)), rows, range(1, 6))


def lines_table(name: str) -> str:
    """Return the area of each draw and mean costs, for lines that have every draw and stream."""
    found = sorted({(run["line"], run["reencoding"]) for run in results(name).find()})
    draws = DRAWS if name == "streams_policies" else (SEED,)
    rows = []
    for line, policy in found:
        lines = [results(name).find(line=line, reencoding=policy, stream=stream) for stream in STREAMS]
        by_stream = [[run for run in runs if run["seed"] in draws] for runs in lines]
        if any(len(runs) < len(draws) for runs in by_stream):
            continue
        every = [run for runs in by_stream for run in runs]
        areas = [fmean(run["area"] for run in runs) for runs in by_stream]
        cells = (
            LINES[line],
            f"`{policy}`",
            *(format_range([run["area"] for run in runs]) for runs in by_stream),
            f"{fmean(run['learn_seconds'] for run in every):.1f}",
            f"{fmean(run['reencoded_items'] for run in every):,.0f}",
        )
        rows.append((-fmean(areas), cells))
    header = ("", "re-encoding", *STREAMS.values(), "s learning", "re-encoded")
    return page_table(header, [cells for _, cells in sorted(rows)], range(2, 7))


def format_range(values: list[float]) -> str:
    """Format the mean of draws with the lowest and the highest; of one draw, its value."""
    if len(values) == 1:
        return format_figure(values[0])
    return f"{format_figure(fmean(values))} ({format_figure(min(values))}–{format_figure(max(values))})"


def find_rival_areas(line: tuple[str, str], stream: str) -> tuple[list[float], list[float]]:
    """Return the areas of a line and of the best line of other methods, by draw."""
    found = {(run["line"], run["reencoding"]) for run in results("streams_policies").find(seed=DRAWS[-1])}
    others = sorted(other for other in found if not other[0].startswith("streaming_lda"))
    own = [results("streams_policies").scores("area", **key(line, stream))[draw] for draw in DRAWS]
    best = [
        max(results("streams_policies").scores("area", **key(other, stream)).get(draw, 0) for other in others)
        for draw in DRAWS
    ]
    return own, best


def mean_lead(line: tuple[str, str], stream: str) -> str:
    """Return the mean lead of a line over the best line of other methods in each draw, with its interval."""
    return format_mean(mine - other for mine, other in zip(*find_rival_areas(line, stream), strict=True))


def leads_table() -> str:
    """Return the lead of each of our lines over the best other line of each draw, by stream, with its interval."""
    rows = []
    for line in (BEST, ("streaming_lda_priors", "never")):
        cells = []
        for stream in STREAMS:
            own, best = find_rival_areas(line, stream)
            wins = sum(mine > other for mine, other in zip(own, best, strict=True))
            p = wilcoxon(own, best).p_value
            cells.append(f"{mean_lead(line, stream)}, {wins} of {len(DRAWS)}, p = {format_figure(p)}")
        rows.append((LINES[line[0]], f"`{line[1]}`", *cells))
    return page_table(("", "re-encoding", *STREAMS.values()), rows, range(2, 5))


def key(line: tuple[str, str], stream: str) -> dict[str, str]:
    """Return the values that select the draws of a line on a stream."""
    return {"line": line[0], "reencoding": line[1], "stream": stream}


def others_table() -> str:
    """Return the areas of the best lines on other streams, and with other code lengths, in one draw."""
    streams = {"stationary": ("stationary", 32, ""), "shifting priors": ("shifting_priors", 32, "")}
    for kind in ("noise", "brightness"):
        streams[kind] = ("feature_drift", 32, f"stream.kind={kind} stream.size=60")
    for bits in (16, 64):
        for stream, name in STREAMS.items():
            streams[f"{name}, {bits} bits"] = (stream, bits, ROTATION if stream == "feature_drift" else "")
    found = results("streams_others")
    areas = {}
    for line, policy in sorted({(run["line"], run["reencoding"]) for run in found.find()}):
        selected = (
            found.find(line=line, reencoding=policy, stream=stream, bits=bits, settings=settings)
            for stream, bits, settings in streams.values()
        )
        areas[f"{LINES[line]}, `{policy}`"] = [format_figure(runs[0]["area"]) if runs else "" for runs in selected]
    lines = sorted(areas, key=lambda line: areas[line][0], reverse=True)
    rows = [(name, *(areas[line][row] for line in lines)) for row, name in enumerate(streams)]
    return page_table(("", *lines), rows, range(1, 1 + len(lines)))


def refitting_runs(line: str) -> dict[int, list[dict[str, Any]]]:
    """Return the runs of draw SEED by interval, for intervals that have every stream.

    The last interval of streaming LDA is the length of the stream: no code is re-encoded.
    """
    runs = results("streams_refitting").find(line=line, seed=SEED)
    runs += results("streams_policies").find(line=line, seed=SEED, reencoding="every")
    if line == "streaming_lda":
        runs += [
            run | {"interval": 10_000}
            for run in results("streams_policies").find(line=line, seed=SEED, reencoding="never")
        ]
    by_interval = {n: [run for run in runs if run["interval"] == n] for n in sorted({run["interval"] for run in runs})}
    return {n: group for n, group in by_interval.items() if {run["stream"] for run in group} == set(STREAMS)}


def refitting_curve(line: str, cost: str) -> list[tuple[float, float]]:
    """Return mean cost and mean area over the streams for each interval, in ascending order of the cost."""
    groups = refitting_runs(line).values()
    return sorted((fmean(run[cost] for run in group), fmean(run["area"] for run in group)) for group in groups)


def interpolate_cost(curve: list[tuple[float, float]], area: float) -> float | None:
    """Return the cost at which a curve reaches an area, by linear interpolation; None if it does not."""
    if area <= curve[0][1]:
        return curve[0][0]
    for (x0, y0), (x1, y1) in pairwise(curve):
        if y0 <= area <= y1:
            return x0 + (x1 - x0) * (area - y0) / (y1 - y0)
    return None


def refitting_table() -> str:
    """Return areas and both costs by interval, and the codes that streaming LDA re-encodes for the same mean area."""
    rows = []
    curve = refitting_curve("streaming_lda", "reencoded_items")
    for line in ("itq_cca", "streaming_lda"):
        for interval, group in refitting_runs(line).items():
            by_stream = {run["stream"]: run["area"] for run in group}
            area = fmean(by_stream.values())
            same = interpolate_cost(curve, area) if line == "itq_cca" else None
            rows.append(
                (
                    "ITQ+CCA, refitted" if line == "itq_cca" else LINES[line],
                    f"{interval:,}" if interval < 10_000 else "never",
                    *(format_figure(by_stream[stream]) for stream in STREAMS),
                    format_figure(area),
                    f"{fmean(run['learn_seconds'] for run in group):.1f}",
                    f"{fmean(run['reencoded_items'] for run in group):,.0f}",
                    "" if same is None else f"{same:,.0f}",
                )
            )
    header = ("", "every", *STREAMS.values(), "mean", "s learning", "re-encoded", "streaming LDA's, same mean")
    return page_table(header, rows, range(1, 9))


TABLES = {f"streams_{stream}": partial(policies_table, stream) for stream in STREAMS} | {
    "streams_draws": partial(lines_table, "streams_policies"),
    "streams_unlabelled": partial(lines_table, "streams_unlabelled"),
    "streams_kernel": partial(lines_table, "streams_kernel"),
    "streams_refitting": refitting_table,
    "streams_leads": leads_table,
    "streams_others": others_table,
}

FIGURES = {f"streams_lead_{stream}": partial(mean_lead, BEST, stream) for stream in STREAMS}
