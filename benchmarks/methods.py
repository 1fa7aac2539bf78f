"""Seconds and peak memory of every method's fit, and the speed of encoding against its matrix product.

python benchmarks/methods.py --features gist.npy --labels labels.npy       every projection and quantiser of conf/
python benchmarks/methods.py --methods ksh sdh --quantizers                some projections, no quantiser
python benchmarks/methods.py --rows 1000000 --dimension 128 --sift FOLDER/siftsmall_base.fvecs
python benchmarks/methods.py ... --json studies/results/methods_times.json  writes a result file too

59,000 × 512 features, synthetic of ten clusters without --features, to 64 bits; methods fitted from pairs see the first
5,000 rows. With --rows 1000000 the features are real SIFT vectors repeated with Gaussian noise of a hundredth of their
standard deviation, seeded, and methods with supervision are left out. Each fit has its own process, and its
peak memory is that of the process minus the peak of a process that only makes the features and imports the libraries. A
quantiser is fitted on projections of PCAH, and the peak of a process that only fits PCAH is subtracted.
"""

import argparse
import importlib
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, instantiate
from measurements import result_path, write_measurements

from deephash.affinity.epsilon_ball import EpsilonBall
from deephash.affinity.label import Label
from deephash.report.tables import markdown_table

CONF = Path(__file__).resolve().parent.parent / "conf"
PAIR_ROWS = 5_000
ENCODING_REPETITIONS = 5
COLUMNS = ("what", "name", "rows", "fit s", "peak MB", "encode s", "product s", "product / encode")


def make_features(arguments):
    """Return features float32 (n, d) and labels int64 (n,), the same in every process."""
    rows, dimension = arguments.rows, arguments.dimension
    generator = torch.Generator().manual_seed(0)
    if arguments.features:
        features = np.ascontiguousarray(np.load(arguments.features, allow_pickle=False, mmap_mode="r")[:rows])
        labels = np.load(arguments.labels, allow_pickle=False)[:rows] if arguments.labels else np.arange(rows) % 10
        return torch.from_numpy(features.astype(np.float32, copy=False)), torch.from_numpy(labels.astype(np.int64))
    if arguments.sift:
        vectors = read_sift(Path(arguments.sift))
        features, scale = torch.empty(rows, vectors.shape[1]), 0.01 * float(vectors.std())
        for start in range(0, rows, len(vectors)):
            block = features[start : start + len(vectors)]
            block.copy_(vectors[: len(block)]).add_(torch.randn(block.shape, generator=generator), alpha=scale)
        return features, torch.zeros(rows, dtype=torch.int64)
    labels = torch.randint(10, (rows,), generator=generator)
    basis = torch.linalg.qr(torch.randn(dimension, dimension, generator=generator)).Q
    basis *= torch.arange(1, dimension + 1).pow(-0.7)[:, None] * 0.1
    centres = 0.5 * torch.randn(10, dimension, generator=generator)
    features = torch.empty(rows, dimension)
    for start in range(0, rows, 8192):
        drawn = centres[labels[start : start + 8192]]
        features[start : start + 8192] = (drawn + torch.randn(drawn.shape, generator=generator)) @ basis + 0.1
    return features, labels


def read_sift(path):
    """Read SIFT vectors from an .fvecs file, or the array `base` of an .npz."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as stored:
            return torch.from_numpy(stored["base"].astype(np.float32))
    raw = np.fromfile(path, np.int32)
    return torch.from_numpy(raw.reshape(-1, raw[0] + 1)[:, 1:].view(np.float32).copy())


def build(group, name, bits, dimension):
    """Build a projection or quantiser as its YAML configures it."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides=[f"{group}={name}"])
    if group == "quantizer":
        return instantiate(config.quantizer, bits=bits)
    return instantiate(config.projection, input_dim=dimension, output_dim=bits)


def read_requirements(group, name):
    """Return the names of the inputs that the fit of a choice requires besides features."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides=[f"{group}={name}"])
    return get_class((config.projection if group == "method" else config.quantizer)._target_).requires


def find_product(projection, features):
    """Return a function for the matrix product in encoding: features times directions, or features times anchors.

    The matrix is the largest two-dimensional weight with the dimension of the features. Methods without such a weight,
    such as trees, return None.
    """
    dimension = features.shape[1]
    weights = [w.detach() for w in projection.state_dict().values() if w.ndim == 2 and dimension in w.shape]
    if not weights:
        return None
    weight = max(weights, key=lambda w: w.numel())
    weight = weight if weight.shape[0] == dimension else weight.T.contiguous()
    return lambda: [features[i : i + 8192] @ weight.to(features.dtype) for i in range(0, len(features), 8192)]


def measure_least(run):
    """Return the least of several times, after a warm-up."""
    run()
    seconds = []
    for _ in range(ENCODING_REPETITIONS):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def measure(arguments):
    """Measure one fit and its encoding in this process and print them as JSON."""
    group, name = arguments.one
    features, labels = make_features(arguments)
    bits, dimension = arguments.bits, features.shape[1]
    generator = torch.Generator().manual_seed(0)
    for library in ("faiss", "scipy.sparse.linalg", "sklearn.svm"):
        importlib.import_module(library)  # before the baseline is measured, since every method may use it
    import scipy.sparse.linalg  # noqa: F401
    import sklearn.svm  # noqa: F401

    found = {"what": group, "name": name}
    if group != "baseline":
        part = build(group, name, bits, dimension)
        rows = features
        if "affinity" in part.requires:
            rows, labels = features[:PAIR_ROWS], labels[:PAIR_ROWS]
        if group == "quantizer":
            pcah = build("method", "pcah", part.projection_dim, dimension).fit(features)
            features, rows = pcah(features).detach(), pcah(rows).detach()
        given = {"generator": generator}
        if "labels" in part.requires:
            given["labels"] = labels
        if "affinity" in part.requires:
            definition = EpsilonBall() if group == "quantizer" else Label()
            given["affinity"] = definition.fit(rows, labels).supervise(rows, labels)
        started = time.perf_counter()
        part.fit(rows, **given)
        found |= {"rows": len(rows), "fit s": time.perf_counter() - started}
    # In kilobytes on Linux.
    found["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if group == "method":
        with torch.no_grad():
            blocks = range(0, len(features), 8192)
            found["encode s"] = measure_least(lambda: [part(features[i : i + 8192]) >= 0 for i in blocks])
            product = find_product(part, features)
            if product is not None:
                found["product s"] = measure_least(product)
                found["product / encode"] = found["product s"] / found["encode s"]
    print(json.dumps(found))


def measure_apart(arguments, group, name):
    """Measure one fit in a separate process; return its error if it failed."""
    command = [sys.executable, __file__, "--one", group, name, "--bits", str(arguments.bits)]
    command += ["--rows", str(arguments.rows), "--dimension", str(arguments.dimension)]
    for option in ("features", "labels", "sift"):
        if getattr(arguments, option):
            command += [f"--{option}", getattr(arguments, option)]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        reason = (ended.stderr.strip().splitlines() or ["no message"])[-1]
        return {"what": group, "name": name, "error": f"exit status {ended.returncode}: {reason}"}
    return json.loads(ended.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="*", help="names of conf/method; all by default")
    parser.add_argument("--quantizers", nargs="*", help="names of conf/quantizer; all by default")
    parser.add_argument("--rows", type=int, default=59_000)
    parser.add_argument("--dimension", type=int, default=512, help="dimension of synthetic features")
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--features", help="features as .npy, floating (n, d)")
    parser.add_argument("--labels", help="class indices as .npy (n,)")
    parser.add_argument("--sift", help="SIFT vectors as .fvecs, or .npz with the array base")
    parser.add_argument("--json", type=result_path, help="result file to write")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        measure(arguments)
        return
    groups = {"method": arguments.methods, "quantizer": arguments.quantizers}
    for group, names in groups.items():
        if names is None:
            groups[group] = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
        if arguments.sift:
            groups[group] = [name for name in groups[group] if not read_requirements(group, name)]
    baseline = {"method": measure_apart(arguments, "baseline", "features")["peak MB"]}
    if groups["quantizer"]:
        baseline["quantizer"] = measure_apart(arguments, "method", "pcah")["peak MB"]
    rows = []
    for group, names in groups.items():
        for name in names:
            row = measure_apart(arguments, group, name)
            if "peak MB" in row:
                row["peak MB"] -= baseline[group]
            rows.append(row)
            shown = [f"{key} {value:.3f}" if isinstance(value, float) else f"{value}" for key, value in row.items()]
            print(", ".join(shown), flush=True)
    data = f"SIFT vectors of {arguments.sift} repeated with noise" if arguments.sift else arguments.features
    title = f"{arguments.rows:,} rows of {data or 'synthetic features'}, {arguments.bits} bits, "
    title += f"{torch.get_num_threads()} threads; peak memory above {baseline['method']:.0f} MB of data and libraries"
    table = markdown_table(COLUMNS, [[row.get(name) for name in COLUMNS] for row in rows], right=range(2, len(COLUMNS)))
    failures = "".join(f"- {row['name']}: {row['error']}\n" for row in rows if "error" in row)
    page = f"{title}\n\n{table}" + (f"\nFailed:\n\n{failures}" if failures else "")
    print(page)
    if arguments.json:
        sizes = {"bits": arguments.bits, "baseline MB": baseline["method"]}
        measured = [sizes | {name: row.get(name) for name in (*COLUMNS, "error")} for row in rows]
        write_measurements(arguments.json, measured, torch.get_num_threads())


if __name__ == "__main__":
    main()
