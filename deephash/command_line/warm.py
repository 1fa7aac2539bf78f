"""`deephash warm`."""

import typer


def warm() -> None:
    """Compile the kernels of ranking, of indexes, of ITQ and of additive codes, so that no later process waits.

    Run it once while you build the image of a container. Kernels are stored beside the installed package, or in the
    folder that the environment variable NUMBA_CACHE_DIR names.
    """
    from deephash.compression.additive_kernels import compile_additive_kernels
    from deephash.indexes.kernel_compilation import compile_kernels
    from deephash.io.progress import show_waiting

    with show_waiting("Compiling"):
        folder = compile_kernels()
        compile_additive_kernels()
    typer.echo(f"Kernels are compiled; those of ranking are in {folder}")
