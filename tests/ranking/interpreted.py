"""Tests of Triton's kernels without a GPU: interpreted in a process of their own, or compiled for a GPU."""

import os
import subprocess
import sys

import pytest

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
interpreted = pytest.mark.skipif(not INTERPRETED, reason="runs in the process of a test of this file")
compiled = pytest.mark.skipif(INTERPRETED, reason="needs Triton's compiler, which TRITON_INTERPRET=1 replaces")


def run_interpreted(file):
    """Run the interpreted tests of a file, and return what pytest prints."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rf", "-n", "0", "-p", "no:cacheprovider", file],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def compile_ptx(kernel, signature, constants, warps=4):
    """PTX of a kernel for a GPU that need not be there."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    source = ASTSource(kernel, {**signature, **dict.fromkeys(constants, "constexpr")}, constexprs=constants)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps}).asm["ptx"]
