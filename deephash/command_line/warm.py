"""`deephash warm`."""

import typer


def warm() -> None:
    """Compile the kernels of ranking, of indexes and of ITQ, so that no later process waits for them.

    Run it once while you build the image of a container. Kernels are stored beside the installed package, or in the
    folder that the environment variable NUMBA_CACHE_DIR names.
    """
    from deephash.indexes.kernel_compilation import compile_kernels
    from deephash.io.progress import show_waiting

    with show_waiting("Compiling"):
        folder = compile_kernels()
    typer.echo(f"Kernels are compiled; those of ranking are in {folder}")
