"""Time and quantisation error of ITQ beside FAISS's ITQTransform, both fitted on all rows.

python benchmarks/itq.py                                59,000 × 512 synthetic features → 64 bits, 50 rounds
python benchmarks/itq.py --features gist.npy            the same on features of your own, float32 (n, d)
python benchmarks/itq.py --json studies/results/itq_times.json        also as a result file

Runs alternate, so that other load on the machine affects both. FAISS scales centred rows to unit length before its
PCA, so the total errors belong to different problems. The script compares the errors of its rotation (ITQMatrix) and
ours, ‖B - V R‖² on the same PCA projections V.
"""

import argparse
import statistics
import time

import faiss
import numpy as np
import torch
from measurements import result_path, write_measurements

from deephash.functional.principal_components import principal_components
from deephash.projections.itq import ITQ

ROUNDS = 50
# Seconds until the spinning threads of one fit sleep, before the other fit starts.
PAUSE = 0.2


def draw_features(n, d):
    """Draw Gaussian features in a random basis, with variances that decay like those of GIST."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(d, d, generator=generator)).Q
    return torch.randn(n, d, generator=generator) @ (torch.arange(1, d + 1).pow(-0.7)[:, None] * basis.T) * 0.1 + 0.1


def fit_faiss(features, bits):
    transform = faiss.ITQTransform(features.shape[1], bits, True)
    # By default it learns from a sample of 10 rows per dimension.
    transform.max_train_per_dim = len(features)
    transform.itq.max_iter = ROUNDS
    transform.train(features.numpy())
    return transform


def compute_error(projections, rotation):
    """Q(B, R) = ‖sign(V R) - V R‖², the paper's Eq. 2."""
    return float((1 - (projections @ rotation).abs()).square().sum(dtype=torch.float64))


def compare_errors(features, bits):
    """Compute the errors of both rotations of the same projections V, for three random starts."""
    mean, components, _ = principal_components(features, bits)
    projections = ((features - mean.float()) @ components.float()).contiguous()
    errors = {"deephash": [], "faiss": []}
    for seed in range(3):
        fitted = ITQ(features.shape[1], bits, ROUNDS).fit(features, generator=torch.Generator().manual_seed(seed))
        rotation = components.T @ fitted.directions.detach().double()
        errors["deephash"].append(compute_error(projections, rotation.float()))
        matrix = faiss.ITQMatrix(bits)
        matrix.max_iter, matrix.seed = ROUNDS, 123 + seed
        matrix.train(projections.numpy())
        rotation = torch.from_numpy(faiss.vector_to_array(matrix.A).reshape(bits, bits).T.copy())
        errors["faiss"].append(compute_error(projections, rotation))
    return errors


def compare_times(features, bits, repetitions):
    seconds = {"deephash": [], "faiss": []}
    runs = {
        "deephash": lambda: ITQ(features.shape[1], bits, ROUNDS).fit(features),
        "faiss": lambda: fit_faiss(features, bits),
    }
    for repetition in range(repetitions + 1):  # The first is a warm-up and is not counted.
        for name, run in runs.items():
            time.sleep(PAUSE)
            start = time.perf_counter()
            run()
            if repetition:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", help="features as .npy, floating (n, d); synthetic by default")
    parser.add_argument("--rows", type=int, default=59000)
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--json", type=result_path, help="result file to write")
    arguments = parser.parse_args()
    if arguments.features:
        stored = np.load(arguments.features, allow_pickle=False)[: arguments.rows]
        features = torch.from_numpy(np.ascontiguousarray(stored, np.float32))
    else:
        features = draw_features(arguments.rows, 512)
    seconds = compare_times(features, arguments.bits, arguments.repetitions)
    errors = compare_errors(features, arguments.bits)
    print(
        f"ITQ, {features.shape[0]} × {features.shape[1]} → {arguments.bits} bits, {ROUNDS} rounds, "
        f"{torch.get_num_threads()} threads, {arguments.repetitions} alternating repetitions"
    )
    print(f"{'':10}{'min s':>8}{'median s':>10}{'max s':>8}{'error: median of 3 starts':>28}{'least':>12}")
    for name, values in seconds.items():
        print(
            f"{name:10}{min(values):8.3f}{statistics.median(values):10.3f}{max(values):8.3f}"
            f"{statistics.median(errors[name]):28.1f}{min(errors[name]):12.1f}"
        )
    ratios = sorted(ours / theirs for ours, theirs in zip(seconds["deephash"], seconds["faiss"], strict=True))
    ratio = {
        "of_minima": min(seconds["deephash"]) / min(seconds["faiss"]),
        "median": statistics.median(ratios),
        "least": ratios[0],
        "most": ratios[-1],
    }
    print("time, deephash / faiss: " + ", ".join(f"{name} {value:.3f}" for name, value in ratio.items()))
    if arguments.json:
        sizes = {"rows": features.shape[0], "dimensions": features.shape[1], "bits": arguments.bits, "rounds": ROUNDS}
        error = {name: statistics.median(values) for name, values in errors.items()}
        rows = [
            {**sizes, "engine": name, "repetition": place, "seconds": value, "median_error": error[name]}
            for name, values in seconds.items()
            for place, value in enumerate(values)
        ]
        write_measurements(arguments.json, rows, torch.get_num_threads())


if __name__ == "__main__":
    main()
