"""Cost of a step of joint training against its encoder's forward and backward pass.

python benchmarks/joint_step.py                                    every loss of conf/loss at 64 bits and batch 512
python benchmarks/joint_step.py --losses ap dpsh csq --bits 32     some, at another length
python benchmarks/joint_step.py --output joint_step                writes joint_step.md too

The encoder is an MLP 512-1024-512 and a linear projection to the bits, on random features of ten classes. Bare:
forward, the sum of the projections, backward. Step: forward, relaxation, loss, backward. Both are timed in turn,
so that other load on the machine affects both; the ratio is that of the medians.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from torch import nn

from deephash.losses.batch import TrainingBatch
from deephash.quantizers.relaxations.tanh import Tanh
from deephash.quantizers.sbq import SBQ
from deephash.report.tables import markdown_table
from deephash.training.building import build_loss

CONF = Path(__file__).resolve().parent.parent / "conf"
CLASSES = 10
# All but the one that sums others.
LOSSES = sorted({path.stem for path in (CONF / "loss").glob("*.yaml")} - {"nested"})


def build_one_loss(name, bits):
    """Build a loss as its YAML configures it, with the sizes of this benchmark."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides=["train=joint", f"loss={name}"])
    sizes = {"code_length": bits, "projections": bits, "classes": CLASSES, "input_dim": 512}
    (loss,) = build_loss(config, sizes | {"generator": torch.Generator().manual_seed(0)}).losses.values()
    return loss


def time_step(step, device):
    """Return the seconds of one call."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--losses", nargs="+", default=LOSSES)
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--output", help="write the table to OUTPUT.md")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    n, bits = arguments.batch, arguments.bits
    features = torch.randn(n, 512, device=device)
    labels = torch.arange(n, device=device) % CLASSES
    network = nn.Sequential(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 512), nn.Linear(512, bits)).to(device)
    quantizer = SBQ(bits, Tanh()).to(device)

    def bare():
        network.zero_grad()
        network(features).sum().backward()

    rows = []
    for name in arguments.losses:
        loss = build_one_loss(name, bits).to(device)

        def step(loss=loss):
            network.zero_grad()
            loss.zero_grad()
            views = torch.cat([features, features]) if "second_codes" in loss.requires else features
            projections = network(views)
            codes = quantizer.unary(projections)
            batch = TrainingBatch(
                codes=codes[:n],
                projections=projections[:n],
                features=features,
                positions=torch.arange(n, device=device),
                labels=labels,
                neighbours=labels[:, None] == labels if "neighbours" in loss.requires else None,
                second_codes=codes[n:] if "second_codes" in loss.requires else None,
                quantizer=quantizer,
            )
            loss(batch).backward()

        for warm in (bare, step, bare, step):
            warm()
        pairs = [(time_step(bare, device), time_step(step, device)) for _ in range(arguments.rounds)]
        without, with_loss = (statistics.median(column) for column in zip(*pairs, strict=True))
        rows.append((name, f"{1e3 * without:.1f}", f"{1e3 * with_loss:.1f}", f"{with_loss / without:.2f}"))
        print(*rows[-1], flush=True)
    table = markdown_table(("loss", "bare ms", "step ms", "step / bare"), rows, right=(1, 2, 3))
    print(f"\n{n} items, {bits} bits, {device.type}, {torch.get_num_threads()} threads\n\n{table}")
    if arguments.output:
        Path(f"{arguments.output}.md").write_text(table + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
