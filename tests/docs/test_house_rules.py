"""Rules of the code base that no linter checks."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"
FILES = sorted(SRC.rglob("*.py"))
TREES = {file.relative_to(SRC).as_posix(): ast.parse(file.read_text(encoding="utf-8")) for file in FILES}

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIREMENTS = [
    Requirement(text)
    for texts in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for text in texts
    if not text.startswith("seglab[")
]
SPECIFIERS = {canonicalize_name(requirement.name): requirement.specifier for requirement in REQUIREMENTS}
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
)
FLOORS = {"lightning": "2.6.6", "hydra-core": "1.3.6", "monai": "1.6.1", "torch": "2.10"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def nodes(*kinds: type) -> Iterator[tuple[str, ast.AST]]:
    for file, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, kinds):
                yield f"{file}:{getattr(node, 'lineno', 0)}", node


def public(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.AST]]:
    """Public classes, functions and methods."""
    for node in body:
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
            yield f"{prefix}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{prefix}{node.name}.")


def test_there_is_code_to_look_at() -> None:
    assert "seglab/spec.py" in TREES
    assert len(TREES) > 40


def test_library_neither_asserts_nor_prints() -> None:
    said = {"print", "pprint"}
    prints = [place for place, node in nodes(ast.Call) if isinstance(node.func, ast.Name) and node.func.id in said]
    assert not [place for place, _ in nodes(ast.Assert)] + prints


def test_every_console_shows_text_as_it_is() -> None:
    made = [place for place, node in nodes(ast.Call) if isinstance(node.func, ast.Name) and node.func.id == "Console"]
    assert [place.partition(":")[0] for place in made] == ["seglab/run/console.py"]


def test_no_module_is_called_utils() -> None:
    vague = {"utils", "util", "helpers", "misc", "common"}
    assert not [file for file in TREES if vague & set(Path(file).with_suffix("").parts)]


def test_every_public_name_and_every_module_is_documented() -> None:
    bare = [file for file, tree in TREES.items() if ast.get_docstring(tree) is None]
    for file, tree in TREES.items():
        bare += [name for name, node in public(tree.body, f"{file}:") if not ast.get_docstring(node)]  # type: ignore[arg-type]
    assert not bare


def test_every_argument_and_return_value_is_annotated() -> None:
    bare = []
    for place, node in nodes(ast.FunctionDef, ast.AsyncFunctionDef):
        given = node.args
        arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        bare += [
            f"{place} {argument.arg}"
            for argument in arguments
            if argument is not None and argument.annotation is None and argument.arg not in ("self", "cls")
        ]
        bare += [f"{place} {node.name} -> ?"] if node.returns is None else []
    assert not bare


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("sync_dist", True),  # a mean of rank means is wrong when the shards are uneven
        ("weights_only", False),  # runs code from the file
        ("allow_pickle", True),
    ],
)
def test_no_call_passes(argument: str, value: bool) -> None:
    assert not [
        place
        for place, node in nodes(ast.keyword)
        if node.arg == argument and not (isinstance(node.value, ast.Constant) and node.value.value is not value)
    ]


def test_files_and_functions_stay_short() -> None:
    long = [f"{file.relative_to(SRC)}: {n}" for file in FILES if (n := len(file.read_text().splitlines())) > 340]
    for place, node in nodes(ast.FunctionDef, ast.AsyncFunctionDef):
        n_lines = node.end_lineno - node.lineno + 1
        long += [f"{place} {node.name}: {n_lines}"] if n_lines > 60 else []
    assert not long


def test_only_the_files_about_wandb_import_it() -> None:
    importers = set()
    for place, node in nodes(ast.Import, ast.ImportFrom):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        if any(name.partition(".")[0] == "wandb" for name in names):
            importers.add(place.partition(":")[0])
    files = ("dashboard", "wandb_board", "wandb_files", "wandb_link", "wandb_run", "wandb_settings")
    assert importers == {f"seglab/run/tracking/{name}.py" for name in files}


def test_the_navigation_of_the_site_names_every_page() -> None:
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2].partition("\nnot_in_nav:")[0]
    patterns = re.findall(r"- (?:[^:\n]+: )?(\S+\.md)", nav)
    named = {file for pattern in patterns for file in (ROOT / "docs").glob(pattern)}
    assert not sorted(set((ROOT / "docs").rglob("*.md")) - named)


def test_every_package_with_code_has_tests() -> None:
    ours = [file for file in TREES if file.startswith("seglab/") and not file.endswith("__init__.py")]
    packages = {file.split("/")[1] for file in ours if file.count("/") > 1}
    assert {"data", "nets", "run"} <= packages
    assert not [name for name in sorted(packages) if not list((ROOT / "tests" / name).glob("test_*.py"))]


@pytest.mark.parametrize("name", FLOORS)
def test_floor_is_not_below_the_oldest_version_that_is_safe(name: str) -> None:
    (floor,) = [Version(part.version) for part in SPECIFIERS[name] if part.operator == ">="]
    assert floor >= Version(FLOORS[name])


def test_malicious_releases_of_lightning_are_excluded() -> None:
    assert {"!=2.6.2", "!=2.6.3"} <= {str(part) for part in SPECIFIERS["lightning"]}


def test_every_requirement_has_a_floor_and_a_pin_that_meets_it() -> None:
    for name, specifier in SPECIFIERS.items():
        assert ">=" in str(specifier), name
        assert PINS[name] in SpecifierSet(str(specifier), prereleases=True), name


def test_pins_are_exact_versions_and_torch_fits_torchvision() -> None:
    assert all(str(Version(version)) for version in PINS.values())
    assert (PINS["torch"], PINS["torchvision"]) == ("2.14.1", "0.29.1")
