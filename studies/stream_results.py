"""Gather the sweeps of docs/streams.md into studies/results/streams_*.json, and draw its picture.

python studies/stream_results.py multirun        the folder that contains the folders of the sweeps
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from page_tables.streams import COSTS, refitting_curve
from result_files import FOLDER, read_results, write_results

from deephash.report.drawing import BLUE, VERMILION, new_figure, paper_style, plain_axes, save_figure

SWEEP = "OMP_NUM_THREADS=1 python train.py -m experiment=streams"
PRIORS = "method=streaming_lda projection.prior_half_life=100 reencoding=never"
# Commands that make the runs of each result file; each command names the folder of its runs.
COMMANDS = {
    "streams_policies": [
        f"{SWEEP} hydra.sweep.dir=multirun/policies",
        f"{SWEEP} method=online_mihash projection.step_size=10 hydra.sweep.dir=multirun/policies",
        f"{SWEEP} method=lsh train.refit_every=null reencoding=never hydra.sweep.dir=multirun/policies",
        f"{SWEEP} {PRIORS} hydra.sweep.dir=multirun/priors",
    ],
    "streams_unlabelled": [
        f"{SWEEP} train.unlabelled=0.3 method=streaming_lda,streaming_itq_cca,itq_cca reencoding=every "
        "hydra.sweep.dir=multirun/unlabelled",
        f"{SWEEP} train.unlabelled=0.3 method=hcoh reencoding=never hydra.sweep.dir=multirun/unlabelled",
        f"{SWEEP} train.unlabelled=0.3 {PRIORS} hydra.sweep.dir=multirun/unlabelled_priors",
    ],
    "streams_refitting": [
        f"for n in 100 250 500 1000 2500 5000; do {SWEEP} method=itq_cca reencoding=every train.refit_every=$n "
        "reencoding.items=$n hydra.sweep.dir=multirun/refit$n; done",
        f"for n in 500 2500 5000; do {SWEEP} method=streaming_lda reencoding=every reencoding.items=$n "
        "hydra.sweep.dir=multirun/every$n; done",
    ],
    "streams_kernel": [
        f"{SWEEP} encoder=random_fourier method=streaming_lda,streaming_itq_cca reencoding=every "
        "hydra.sweep.dir=multirun/fourier",
    ],
    # Other streams and code lengths: the best lines, in one draw.
    "streams_others": [
        f"{SWEEP} seed=10 {setting} {line} hydra.sweep.dir=multirun/others{folder}"
        for folder, setting in (
            ("", "stream=stationary,shifting_priors"),
            ("_noise", "stream=feature_drift stream.kind=noise stream.size=60"),
            ("_brightness", "stream=feature_drift stream.kind=brightness stream.size=60"),
            ("_bits", "bits=16,64"),
        )
        for line in ("method=streaming_lda,streaming_itq_cca,itq_cca reencoding=every", "method=hcoh reencoding=never")
    ],
}
# Fields of streams_others beside those of every file.
OTHER_FIELDS = ("bits", "settings")
FIELDS = ("line", "reencoding", "interval", "stream", "seed", "area", "mAP", "reencoded_items", "learn_seconds")
SETTINGS = 5


def read_run(path: Path) -> list[Any]:
    """Return the fields of a run. Its line is its method, with the suffix `_priors` if priors follow recent labels."""
    row = json.loads(path.read_text(encoding="utf-8"))
    if "unlabelled" not in row:
        raise SystemExit(f"{path} is of a version that encoded items after learning from them; run it again.")
    priors = path.parents[1].name.endswith("priors")
    interval = re.sub(r"\D", "", path.parents[1].name) or 1000
    figures = row["metrics"]
    return [
        row["method"] + ("_priors" if priors else ""),
        row["reencoding"],
        int(interval),
        row["stream"],
        row["seed"],
        *(figures[name] for name in ("area", "mAP", "reencoded_items")),
        row["processor_seconds"]["learn"],
    ]


def read_other_run(path: Path) -> list[Any]:
    """Return the fields of a run with its bits and the settings of its drift, which other files have in common."""
    config = OmegaConf.load(path.parent / "config.yaml")
    drift = config.stream.get("kind")
    settings = f"stream.kind={drift} stream.size={config.stream.size:g}" if drift else ""
    run = read_run(path)
    return [*run[:SETTINGS], config.bits, settings, *run[SETTINGS:]]


def gather(folder: Path, commit: str) -> None:
    """Write the result files from the runs of their sweeps; runs in the files that were not made again are kept."""
    for name, commands in COMMANDS.items():
        sweeps = {sweep for command in commands for sweep in re.findall(r"multirun/([\w$]+)", command)}
        found = [path for sweep in sweeps for path in folder.glob(f"{sweep.replace('$n', '*')}/*/metrics.json")]
        if not found:
            continue
        kept = read_results(name).runs if (FOLDER / f"{name}.json").exists() else []
        # A run is identified by its settings, the first fields.
        others = OTHER_FIELDS if name == "streams_others" else ()
        read = read_other_run if others else read_run
        runs = {tuple(run[: SETTINGS + len(others)]): run for run in [*kept, *map(read, found)]}
        fields = [*FIELDS[:SETTINGS], *others, *FIELDS[SETTINGS:]]
        write_results(FOLDER / f"{name}.json", fields, sorted(runs.values()), commands, commit)


def draw_costs(path: Path) -> None:
    """Draw the area against both costs, for ITQ+CCA refitted at intervals and streaming LDA."""
    with paper_style():
        figure = new_figure(7, 2.6)
        for axes, (cost, title) in zip(figure.subplots(1, 2, sharey=True), COSTS.items(), strict=True):
            for line, name, colour in (
                ("itq_cca", "ITQ+CCA, refitted", VERMILION),
                ("streaming_lda", "streaming LDA", BLUE),
            ):
                points = refitting_curve(line, cost)
                axes.plot(
                    [x for x, _ in points], [y for _, y in points], marker="o", color=colour, label=name, clip_on=False
                )
            plain_axes(axes)
            axes.set(xlabel=title)
            axes.set_xlim(left=0)
            if cost == "learn_seconds":
                axes.set_ylabel("area, mean of three streams")
                axes.legend(frameon=False)
        save_figure(figure, path)


def main() -> None:
    """Gather the runs and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder that contains the folders of the sweeps")
    parser.add_argument("--commit", default="", help="commit of the code that ran; the current one by default")
    arguments = parser.parse_args()
    gather(arguments.folder, arguments.commit)
    draw_costs(Path(__file__).resolve().parents[1] / "docs" / "pictures" / "stream_costs.png")


if __name__ == "__main__":
    main()
