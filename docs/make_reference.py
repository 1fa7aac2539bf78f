"""A hook of MkDocs: pages of methods in the navigation, and a reference page for each package, made from docstrings.

The registry and the folders name what is listed, so a new method appears without an edit here.
"""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import deephash
from deephash import evaluation, registry

# Packages that users name in Python or in YAML, in the order of the data flow.
PACKAGES = {
    "Data": "deephash.data",
    "Protocols": "deephash.data.protocols",
    "Affinities": "deephash.affinity",
    "Encoders": "deephash.encoders",
    "Projections": "deephash.projections",
    "Projections of two views": "deephash.projections.paired",
    "Projections of streams": "deephash.projections.online",
    "Quantisers": "deephash.quantizers",
    "Relaxations": "deephash.quantizers.relaxations",
    "Losses": "deephash.losses",
    "Augmentations": "deephash.augmentations",
    "Training": "deephash.training",
    "Streams": "deephash.streams",
    "Re-encoding": "deephash.streams.reencoding",
    "Ranking": "deephash.ranking",
    "Metrics": "deephash.metrics",
    "Indexes": "deephash.indexes",
    "Compression": "deephash.compression",
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages of methods, of quantisers and of the reference to the navigation."""
    assert config.nav is not None
    methods = next(section["Methods"] for section in config.nav if "Methods" in section)
    methods[1:1] = group_methods(Path(config.docs_dir) / "methods" / "index.md")
    methods[-1]["Quantisers"] += list_pages(config, "quantizers")
    pages = [{title: path_of(package)} for title, package in PACKAGES.items()]
    reference = [{"deephash": path_of("deephash")}, *pages, {"Evaluation": path_of("deephash.evaluation")}]
    config.nav = [*config.nav, {"Reference": reference}]
    return config


def group_methods(index: Path) -> list[dict[str, list[str]]]:
    """Return the pages that the sections of the methods' index link to, by heading, in the order of its tables."""
    sections = re.split(r"^## ", index.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    pages = {section.partition("\n")[0]: re.findall(r"\]\((\w+\.md)\)", section) for section in sections}
    rest = {path.name for path in index.parent.glob("*.md")} - {index.name}
    groups = []
    for heading, names in pages.items():
        first = [name for name in dict.fromkeys(names) if name in rest]
        rest -= set(first)
        groups.append({heading: [f"methods/{name}" for name in first]})
    if rest:
        raise ValueError(f"no section of {index} links to {sorted(rest)}; add them to a table.")
    return groups


def list_pages(config: MkDocsConfig, folder: str) -> list[str]:
    """Return the pages of a folder of docs but for its index, by name."""
    found = sorted((Path(config.docs_dir) / folder).glob("*.md"))
    return [f"{folder}/{path.name}" for path in found if path.stem != "index"]


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the pages to the site."""
    names = [f"{home}.{name}" for name, home in sorted(deephash.HOMES.items())]
    pages = {"deephash": render_page("deephash", "The public names of the package.", names)}
    for package in PACKAGES.values():
        found = (registry.find_public(package, name) for name in registry.list_public_names(package))
        classes = [f"{kind.__module__}.{kind.__qualname__}" for kind in found if kind is not None]
        pages[package] = render_page(package, summarise(package), classes)
    scoring = [f"{evaluation.__name__}.{home}.{name}" for name, home in sorted(evaluation.HOMES.items())]
    pages[evaluation.__name__] = render_page(evaluation.__name__, summarise(evaluation.__name__), scoring)
    for package, text in pages.items():
        files.append(File.generated(config, path_of(package), content=text))
    return files


def path_of(package: str) -> str:
    """Return the path of a package's page."""
    return f"reference/{package.removeprefix('deephash.').replace('.', '_')}.md"


def summarise(package: str) -> str:
    """Return the first line of a package's docstring."""
    return (import_module(package).__doc__ or "").partition("\n")[0]


def render_page(package: str, summary: str, names: list[str]) -> str:
    """Return the Markdown of a page, which mkdocstrings fills."""
    return f"# {package}\n\n{summary}\n\n" + "\n".join(f"::: {name}\n" for name in names)
