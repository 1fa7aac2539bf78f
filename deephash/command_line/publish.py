"""`deephash publish`."""

from pathlib import Path
from typing import Annotated

import typer

from deephash.command_line.arguments import Run


def publish(
    run: Run,
    repo: Annotated[str, typer.Argument(help="Repository on the Hugging Face hub: user/name.", show_default=False)],
    license: Annotated[
        str,
        typer.Option(help="Identifier of the licence of the weights, such as mit or cc-by-4.0.", show_default=False),
    ],
    private: Annotated[
        bool | None, typer.Option("--private/--public", help="Visibility of a new repository.", show_default=False)
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch to commit to. Default: main.", show_default=False)
    ] = None,
    pull_request: Annotated[bool, typer.Option(help="Open a pull request instead of committing.")] = False,
    folder: Annotated[
        Path | None,
        typer.Option(help="Write the files into this folder and upload nothing.", show_default=False),
    ] = None,
) -> None:
    """Share a hasher: upload its configuration, its weights and a model card with the figures of its run.

    A frozen network that computed the features of the run becomes a part of the hasher.

    The access token is the one that `hf auth login` stored, or HF_TOKEN.
    """
    from deephash.code_files.run_descriptors import join_network
    from deephash.hashers.hub import check_repository, import_client
    from deephash.io.ownership import check_not_source
    from deephash.report.run_evidence import read_evidence

    check_repository(repo)
    evidence = read_evidence(run) if (run / "config.yaml").exists() else None
    if folder is not None:
        folder = folder.expanduser()
        check_not_source(run, folder)
        join_network(run).save_pretrained(folder, license=license, evidence=evidence, repo=repo)
        typer.echo(f"{folder}: config.json, model.safetensors and README.md of {repo}")
        return
    import_client()
    url = join_network(run).push_to_hub(
        repo, license=license, evidence=evidence, private=private, revision=revision, create_pr=pull_request
    )
    typer.echo(url)
