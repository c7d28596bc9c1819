"""What is imported is declared, what is installed and locked is within its range, and what is private is known."""

import ast
import importlib.metadata
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

tomllib = pytest.importorskip("tomllib", reason="in Python since 3.11")

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "uipad_cli"
FILES = sorted(PACKAGE.rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CORE = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = {
    name: [Requirement(line) for line in lines] for name, lines in PROJECT["optional-dependencies"].items()
}  # by the name of the extra
LOCKED = [*CORE, *EXTRAS["dev"]]
LOCK = ROOT / "requirements.lock"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
INSTALLED = importlib.metadata.packages_distributions()

# module → the declared package that pins the one it comes from to a single version
PINNED_BY = {"pydantic_core": "pydantic"}
# names with an underscore that are not our own, and whose they are: each may go with the next release
PRIVATE = {
    "_pos_embed": "timm",
    "_multifile": "tifffile",
    "_foreach_add_": "torch",
    "_foreach_addcdiv_": "torch",
    "_foreach_addcmul_": "torch",
    "_foreach_div": "torch",
    "_foreach_lerp_": "torch",
    "_foreach_maximum_": "torch",
    "_foreach_mul_": "torch",
    "_foreach_norm": "torch",
    "_foreach_sqrt_": "torch",
    "_foreach_zero_": "torch",
    "_exit": "Python",
}


def names(requirements):
    return {canonicalize_name(one.name) for one in requirements}


def parsed(path):
    return ast.parse(path.read_text())


def programs(tree):
    """The trees of the programs that a module holds as text, for a process of its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "import " in node.value:
            try:
                yield ast.parse(node.value)
            except SyntaxError:  # a sentence
                continue


def modules(tree):
    """Top-level names of all that is imported, with those of import_module("...")."""
    for node in ast.walk(tree):
        found = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found = [node.module]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "find_spec")):
            found = [one.value for one in node.args[:1] if isinstance(one, ast.Constant)]
        for name in found:
            top = name.partition(".")[0]
            if top not in sys.stdlib_module_names and top != "uipad_cli":
                yield top


def distributions(module):
    """The packages that a module may come from; itself where it is not installed, as an extra may be."""
    found = INSTALLED.get(module, [module])
    return {canonicalize_name(PINNED_BY.get(module, name)) for name in found}


def at_import(tree):
    """The statements of a module that run when it is imported."""
    return ast.Module([node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef)], [])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_import_is_of_a_declared_dependency(path):
    tree = parsed(path)
    optional = {name for extra, lines in EXTRAS.items() if extra != "dev" for name in names(lines)}
    for module in modules(at_import(tree)):
        assert distributions(module) & names(CORE), f"{path.name} imports {module}"
    for module in [name for one in (tree, *programs(tree)) for name in modules(one)]:
        assert distributions(module) & (names(CORE) | optional), f"{path.name} imports {module}"


def test_the_imports_are_found():
    found = {name for path in FILES for one in (parsed(path), *programs(parsed(path))) for name in modules(one)}
    assert found >= {"torch", "cv2", "yaml", "open3d", "OpenEXR"}
    assert distributions("cv2") == {"opencv-python-headless"}


@pytest.mark.parametrize(("module", "package"), PINNED_BY.items())
def test_what_is_pinned_by_another_is(module, package):
    pinned = [Requirement(line) for line in importlib.metadata.requires(package)]
    (line,) = [one for one in pinned if canonicalize_name(one.name) == canonicalize_name(module)]
    assert {one.operator for one in line.specifier} == {"=="}


@pytest.mark.parametrize("requirement", [*CORE, *(one for lines in EXTRAS.values() for one in lines)], ids=str)
def test_every_dependency_has_a_lower_bound_and_what_is_installed_meets_it(requirement):
    assert ">=" in {one.operator for one in requirement.specifier}
    try:
        installed = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        assert canonicalize_name(requirement.name) not in names(LOCKED), "the tests need it"
    else:
        assert requirement.specifier.contains(installed, prereleases=True)


@pytest.mark.parametrize("extra", [name for name in EXTRAS if name not in ("dev", "3d")])
def test_the_tests_run_on_the_same_ranges_as_the_extras(extra):
    assert {str(one) for one in EXTRAS[extra]} <= {str(one) for one in EXTRAS["dev"]}


def locked():
    """Requirement and number of hashes of each entry of the lock."""
    text = re.sub(r"^\s*#.*\n", "", LOCK.read_text(), flags=re.MULTILINE)
    for entry in text.replace("\\\n", "").splitlines():
        line, *hashes = re.split(r"\s+--hash=", entry.strip())
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), line
        yield Requirement(line), len(hashes)


def test_every_entry_of_the_lock_is_one_version_with_hashes():
    entries = list(locked())
    assert len(entries) > len(LOCKED)
    for requirement, hashes in entries:
        assert [one.operator for one in requirement.specifier] == ["=="], requirement
        assert requirement.url is None
        assert hashes, requirement


def test_the_lock_names_no_host_and_no_folder():
    for line in LOCK.read_text().splitlines():
        assert re.fullmatch(r"[a-z0-9.-]+==\S+( ; [^@]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?|\s*#.*", line), line
        assert not re.search(r"://|/|\\.|index|find-links|trusted|[.](org|com|net|io|dev)\b", line), line


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_satisfies_pyproject(python):
    here = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": "linux"}
    pins = {}
    for requirement, _ in locked():
        if requirement.marker is None or requirement.marker.evaluate(here):
            name = canonicalize_name(requirement.name)
            assert name not in pins, f"{name} twice"
            (pin,) = requirement.specifier
            pins[name] = Version(pin.version)
    for requirement in LOCKED:
        if requirement.marker is None or requirement.marker.evaluate(here):
            name = canonicalize_name(requirement.name)
            assert name in pins, f"{name} is not in the lock: make it again"
            assert requirement.specifier.contains(pins[name]), f"{name} {pins[name]} is not {requirement.specifier}"


def private_names(tree):
    """Names with one leading underscore: those that are used, and those that are made here."""
    used, made = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            (used if isinstance(node.ctx, ast.Load) else made).add(node.attr)
        elif isinstance(node, ast.keyword) and node.arg:
            used.add(node.arg)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            used |= {part for alias in node.names for part in alias.name.split(".")}
            used |= set((getattr(node, "module", None) or "").split("."))
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            made.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            made.add(node.id)
        elif isinstance(node, ast.arg):
            made.add(node.arg)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
            used |= {one.value for one in node.args[1:2] if isinstance(one, ast.Constant)}
    return tuple({name for name in found if re.match(r"_[^_]", name)} for found in (used, made))


def test_every_private_name_of_a_dependency_is_known():
    trees = [one for path in FILES for one in (parsed(path), *programs(parsed(path)))]
    used, made = (set().union(*found) for found in zip(*map(private_names, trees), strict=True))
    assert used - made == set(PRIVATE)
