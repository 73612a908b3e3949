"""The architecture, read from the syntax trees: who may import whom, and what nobody may do."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "wormjax"
FILES = sorted(LIBRARY.rglob("*.py"))
EVERYWHERE = [p for d in ("wormjax", "experiments", "benchmarks") for p in (ROOT / d).rglob("*.py")]

CORE = {
    *("_masks", "_selection", "_prunable", "_paths", "_counts", "_packing", "_random_masks"),
    *(
        "_jaxprs",
        "_source",
        "rectified",
    ),  # how a program is read and run otherwise, for scores and evaluation alike
}
THIRD_PARTY = {"jax", "flax", "optax", "orbax", "numpy", "jaxtyping"}
ADAPTED = {"equinox", "keras"}  # an adapter may import its framework, inside a function


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module(p): p for p in FILES}


def _imports(path: Path) -> Iterator[tuple[str, ast.stmt]]:
    """Yield every module that a file imports, in functions too, by its full name."""
    package = _module(path) if path.name == "__init__.py" else _module(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                # "from package import _file" imports the file, "from _file import name" the file too
                yield (full if full in MODULES else base), node


def _graph() -> dict[str, set[str]]:
    """Map every file of the library to the files of the library that it imports."""
    return {
        module: {name for name, _ in _imports(path) if name in MODULES and name != module}
        for module, path in MODULES.items()
    }


def _cycle(graph: dict[str, set[str]]) -> list[str] | None:
    done: set[str] = set()

    def visit(node: str, above: list[str]) -> list[str] | None:
        if node in above:
            return [*above[above.index(node) :], node]
        if node in done:
            return None
        for below in sorted(graph[node]):
            if found := visit(below, [*above, node]):
                return found
        done.add(node)
        return None

    for start in sorted(graph):
        if found := visit(start, []):
            return found
    return None


def test_the_reader_sees_imports():
    # were it blind, all below would pass
    graph = _graph()
    assert "wormjax._selection" in graph["wormjax"]
    assert "wormjax._masks" in graph["wormjax._selection"]
    assert "wormjax.scores" in graph["wormjax"]
    assert _cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert _cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None


def test_no_file_imports_itself_by_way_of_others():
    assert _cycle(_graph()) is None


def test_only_the_public_face_knows_the_whole():
    importers = {m for m, imported in _graph().items() if "wormjax" in imported}
    assert importers == set(), "import the file that defines the name, not the package"


def _area(module: str) -> str:
    return module.split(".")[1] if module != "wormjax" else ""


def test_imports_point_one_way():
    for module, imported in _graph().items():
        areas = {_area(name) for name in imported}
        area = _area(module)
        if area in CORE:
            assert areas <= CORE, f"{module} is below everything but {CORE}, and imports {areas}"
        elif area == "scores":
            above = areas - CORE - {"scores"}
            assert above <= {"_shift"}, f"{module} imports {above}: a score knows masks only"
        elif area == "evaluation":
            assert areas <= {"evaluation", "_paths", "_masks", "_jaxprs", "rectified"}, (
                f"{module} imports {areas}, and knows no method"
            )
        elif area == "adapters":
            assert areas <= CORE | {"adapters"}, f"{module} imports {areas}: a thin view, no method"
        elif area:
            assert not areas & {"adapters"}, f"{module} imports adapters: the library takes pytrees"


def _outside(path: Path) -> Iterator[tuple[str, ast.stmt]]:
    for name, node in _imports(path):
        top = name.split(".")[0]
        if top not in sys.stdlib_module_names and top != "wormjax":
            yield top, node


def test_the_library_needs_six_packages():
    for path in FILES:
        allowed = THIRD_PARTY | (ADAPTED if _area(_module(path)) == "adapters" else set())
        assert {top for top, _ in _outside(path)} <= allowed, path


def test_frameworks_are_imported_where_they_are_used():
    for path in FILES:
        at_top = {
            top
            for top, node in _outside(path)
            if top in {"flax", "orbax", *ADAPTED} and node.col_offset == 0
        }
        assert at_top == set(), f"{path} would load {at_top} with `import wormjax`"


def test_importing_wormjax_loads_nothing_of_the_experiments():
    heavy = [
        *("sklearn", "scipy", "tensorflow_datasets", "tensorflow", "matplotlib", "rich", "tyro"),
        *("orbax", "PIL", "equinox", "keras", "torch", "experiments"),
    ]
    program = (
        "import sys, jax, optax\n"
        "before = set(sys.modules)\n"
        "import wormjax\n"
        f"print(*[m for m in {heavy!r} if m in set(sys.modules) - before])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "none_such"},  # an import that starts a device fails
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_every_public_name_is_there():
    import wormjax

    assert sorted(wormjax.__all__) == list(wormjax.__all__)
    for name in wormjax.__all__:
        assert getattr(wormjax, name) is not None
    for module, path in MODULES.items():
        if path.name == "__init__.py":
            statements = ast.parse(path.read_text()).body
            allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.Expr)
            assert all(isinstance(s, allowed) for s in statements), f"{module}: re-exports only"


def test_implementation_files_start_with_an_underscore():
    for path in FILES:
        assert path.name.startswith("_"), path


@pytest.mark.parametrize("name", ["utils", "util", "helpers", "helper", "common", "misc", "tools"])
def test_no_file_is_called_after_nothing(name):
    found = [p for p in EVERYWHERE if name in (p.stem.strip("_"), p.parent.name.strip("_"))]
    assert found == []


def test_files_are_of_one_idea():
    long = {str(p.relative_to(ROOT)): n for p in FILES if (n := p.read_text().count("\n")) > 400}
    assert long == {}


def test_nothing_private_of_jax_no_pickle_and_no_sorting_of_tensors():
    for path in EVERYWHERE:
        where = path.relative_to(ROOT)
        for name, _ in _imports(path):
            assert not name.startswith("jax._src"), where
            assert name.split(".")[0] not in {"pickle", "cloudpickle", "dill", "joblib"}, where
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword):
                assert node.arg != "allow_pickle" or (
                    isinstance(node.value, ast.Constant) and node.value.value is False
                ), where
            if isinstance(node, ast.Attribute):
                assert node.attr != "_src", where
                on_device = isinstance(node.value, ast.Name) and node.value.id in {"jnp", "lax"}
                if where.parts[0] == "wormjax" and on_device:
                    assert node.attr not in {"argsort", "sort", "argpartition", "lexsort"}, where


@pytest.mark.parametrize("part", ["models", "data", "training", "report"])
def test_the_parts_of_the_experiments_know_no_method(part):
    # adapters and what the core says of masks are for all; methods are tied in by one file per paper
    methods = {
        *(
            "_early_bird",
            "_early_bird_state",
            "_worm",
            "_policies",
            "_truncate",
            "_opt_state",
            "_l1",
        ),
        *("scores", "_shift", "dst", "foresight", "lottery", "layers"),
    }
    names = {
        *("early_bird", "early_bird_state", "worm", "detect", "truncate", "policies", "masks_of"),
        *("scores", "top_masks", "random_like", "l1_pull", "l1_penalty"),
    }
    for path in (ROOT / "experiments" / part).rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("wormjax"):
                assert not methods & set((node.module or "").split(".")), f"{path}:{node.lineno}"
                assert not names & {alias.name for alias in node.names}, f"{path}:{node.lineno}"
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id in {"wj", "wormjax"}
            ):
                assert node.attr not in names, f"{path}:{node.lineno}"
