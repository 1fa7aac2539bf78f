"""The folders of the package are layers: imports go down only, and there are no circular imports."""

import ast
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "deephash"
# From the bottom to the top: a room imports from itself and from the rooms before it, also inside functions.
LAYERS = (
    "conversion",
    "validation",
    "registry",
    "io",
    "codes",
    "functional",
    "ranking",
    "metrics",
    "encoders",
    "data",
    "affinity",
    "quantizers",
    "losses",
    "projections",
    "hashers",
    "indexes",
    "satisfaction",
    "augmentations",
    "code_files",
    "report",
    "evaluation",
    "streams",
    "sklearn_transformer",
    "compression",
    "__init__",
    "integrations",
    "training",
    "web",
    "cluster",
    "export",
    "command_line",
)
MAX_ROOT_MODULES = 6


def imported_modules(path, everywhere=True):
    """The modules of deephash that a file imports: `everywhere`, or at its top level alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "deephash":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if file_of(inner) is not None else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "deephash")


def file_of(module):
    stem = PACKAGE.parent.joinpath(*module.split("."))
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


def module_of(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module):
    return (*module.split("."), "__init__")[1]


def test_every_room_has_its_layer():
    rooms = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == set(LAYERS)


def test_imports_go_down():
    rising = {
        f"{module_of(path)} imports {imported}"
        for path in PACKAGE.rglob("*.py")
        for imported in imported_modules(path)
        if LAYERS.index(room(imported)) > LAYERS.index(room(module_of(path)))
    }
    assert rising == set()


def test_no_circle_of_imports():
    files = {module_of(path): set(imported_modules(path, everywhere=False)) for path in PACKAGE.rglob("*.py")}
    try:
        order = list(TopologicalSorter(files).static_order())
    except CycleError as error:
        raise AssertionError(f"files import each other: {' ← '.join(error.args[1])}") from None
    assert set(files) <= set(order)


def test_few_modules_stand_at_the_root():
    assert len(list(PACKAGE.glob("*.py"))) <= MAX_ROOT_MODULES


def test_no_two_files_have_one_name():
    """A file is found by its name alone; each family has its contract in `base.py`."""
    stems = Counter(path.stem for path in PACKAGE.rglob("*.py"))
    assert {stem for stem, files in stems.items() if files > 1} == {"__init__", "base"}
