"""Encoding a folder of photographs with a pretrained hasher, against decoding and the bare network.

python benchmarks/encoding.py [PHOTOGRAPHS]    number of photographs, 256 by default

The bare work is what any program must do: decode the files, scale them, and pass them through the network with merged
normalisations, in the same batches. Both are timed in processor seconds, in turns, because other programs may run.
"""

import functools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from deephash.code_files.encode_file import encode_blocks
from deephash.code_files.image_rows import ImageRows
from deephash.data.descriptors.network_features import CPU_BATCH, NetworkFeatures, load_network
from deephash.data.image_decoding import read_image
from deephash.encoders.timm import Timm
from deephash.hashers.hasher import Hasher
from deephash.projections.itq import ITQ
from deephash.quantizers.sbq import SBQ

BITS, ROUNDS, WIDTH, HEIGHT = 64, 3, 640, 480


def write_photographs(folder: Path, count: int) -> None:
    """Write JPEG files of smooth noise, whose sizes are like those of photographs."""
    draw = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(draw.integers(0, 256, (48, 64, 3), dtype=np.uint8))
        coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(folder / f"{number:05}.jpg", quality=90)


def encode_folder(hasher: Hasher, folder: Path, descriptor: NetworkFeatures) -> None:
    """Encode all photographs of a folder as `deephash encode` does."""
    assert descriptor.image_size is not None
    source = ImageRows(folder, descriptor, descriptor.image_size)
    for _ in encode_blocks(hasher, source, 0, source.most_rows):
        pass


def pass_folder(folder: Path, descriptor: NetworkFeatures) -> None:
    """Decode all photographs and pass them through the network, without anything else."""
    network, preprocessing = load_network(descriptor), descriptor.preprocessing
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (preprocessing.mean, preprocessing.deviation))
    files = sorted(folder.iterdir())
    with torch.inference_mode():
        for first in range(0, len(files), CPU_BATCH):
            images = [
                read_image(file, preprocessing.scaled_size, interpolation=preprocessing.interpolation)
                for file in files[first : first + CPU_BATCH]
            ]
            batch = torch.from_numpy(np.stack(images)).movedim(3, 1).float() / 255
            normalised = (preprocessing.scale(batch) - mean) / deviation
            network(normalised.contiguous(memory_format=torch.channels_last))


def measure(work: Callable[[], None]) -> float:
    """Return the processor seconds of a call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    torch.set_num_threads(1)
    descriptor = NetworkFeatures(functools.partial(Timm, network="tf_efficientnet_lite0", weights="package"))
    features = torch.randn(500, 1280, generator=torch.Generator().manual_seed(0))
    hasher = Hasher(ITQ(1280, BITS), SBQ(BITS)).fit(features)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photographs(folder, count)
        jobs = {
            "bare": lambda: pass_folder(folder, descriptor),
            "encode": lambda: encode_folder(hasher, folder, descriptor),
        }
        pass_folder(folder, descriptor)  # loads the network
        times = [{job: measure(work) for job, work in jobs.items()} for _ in range(ROUNDS)]
    for job in jobs:
        best = min(each[job] for each in times)
        print(f"{job}: {count / best:.1f} photographs a processor second")
    ratio = statistics.median(each["encode"] / each["bare"] for each in times)
    print(f"encoding takes {ratio:.3f} times as long as decoding and the bare network")


if __name__ == "__main__":
    main()
