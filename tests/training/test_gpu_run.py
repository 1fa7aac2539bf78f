"""The main job on a GPU, which CI lacks: the figures are those of the CPU up to the rounding of margins."""

import pytest
import torch

from deephash.command_line.programs.train import train


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("truth", ["label", "nearest_neighbours"])
def test_gpu_gives_the_figures_of_the_cpu(compose_config, tmp_path, truth):
    settings = ("method=lsh", "bits=32", "metrics.at=[10]", "metrics.stable_order=true", f"truth={truth}")
    cpu = train(compose_config(*settings, "trainer=cpu"), tmp_path / "cpu")
    gpu = train(compose_config(*settings, "trainer=gpu"), tmp_path / "gpu")
    assert gpu.row["metrics"] == pytest.approx(cpu.row["metrics"], abs=2e-3)
