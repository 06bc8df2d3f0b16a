"""What is built is what is shipped: sdist and wheel, installed where the repository is not, work by themselves."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

import recllm
from recllm.recommend.build import recommender_of
from tests.conftest import small_log

ROOT = Path(__file__).parent.parent.parent
PARTS = ["pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "constraints.txt", "recllm", "configs", "scripts",
         "tests"]  # fmt: skip
WORKFLOWS = ROOT / ".github" / "workflows"


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """A command in an environment that says nothing of this repository and reaches no network."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    found = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300,
                           env={**kept, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environment})
    assert found.returncode == 0, found.stdout[-1500:] + found.stderr[-3000:]
    return found.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the sdist and the wheel that was built from it: what the sdist lacks, the wheel lacks."""
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"  # building writes into the tree that it builds
    source.mkdir()
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "*.py[cod]"))
        else:
            shutil.copy(ROOT / name, source / name)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", source, cwd=folder)
    return folder / "dist"


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory) -> Path:
    """`bin` of an environment with the wheel and, by a .pth, this one's dependencies. A .pth that is found there is not read: an editable
    install of the repository stays out of sight."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    wheel, = built.glob("*.whl")
    run(sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--no-deps", "--no-index", wheel, cwd=folder)
    around = [p for p in sys.path if p.endswith(("site-packages", "dist-packages"))]
    (site / "dependencies.pth").write_text("\n".join(around) + "\n", encoding="utf-8")
    return folder / "bin"


def test_wheel_and_sdist_hold_every_file_of_the_package(built):
    expected = {str(p.relative_to(ROOT)) for p in (ROOT / "recllm").rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert {"recllm/py.typed", "recllm/data/prepare.sql", "recllm/model/encoders_recllm.py"} <= expected
    wheel, = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {n for n in names if n.startswith("recllm/")} == expected
    assert {n.split("/")[0] for n in names} == {"recllm", f"recllm-{recllm.__version__}.dist-info"}  # no tests, no scripts beside it
    sdist, = built.glob("*.tar.gz")
    listed = run("tar", "tzf", sdist, cwd=built).split()
    inside = {n.partition("/")[2] for n in listed}
    assert expected | {"constraints.txt", "configs/shop.yaml", "scripts/test", "tests/conftest.py"} <= inside
    assert max(p.stat().st_size for p in (wheel, sdist)) < 5e6


def test_the_installed_command_prepares_a_log_without_the_repository(installed, tmp_path):
    shown = run(installed / "recllm", "--help", cwd=tmp_path)
    assert all(command in shown for command in ("prepare", "train", "tune", "evaluate", "release", "recommend"))
    where = run(installed / "python", "-c", "import recllm; print(recllm.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)
    (tmp_path / "shop.csv").write_text(small_log(), encoding="utf-8")
    plain = yaml.safe_load((ROOT / "configs" / "shop.yaml").read_text(encoding="utf-8"))
    plain["schema"] |= {"time": "ts", "outcomes": {"click": {"kind": "binary"}}}
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(plain), encoding="utf-8")
    report = run(installed / "recllm", "prepare", "shop.yaml", cwd=tmp_path, RECLLM_RUNS=str(tmp_path / "runs"))
    assert "144" in report and (tmp_path / "runs" / "shop" / "prepared" / "fingerprint").is_file()


def test_the_installed_package_and_its_pipeline_serve_a_release(installed, made, tmp_path):
    recommender = recommender_of(made)
    folder = recommender.save_pretrained(tmp_path / "release")
    request = {"profile": {"age": 30}, "context": {"time": 1700090000}, "candidates": ["i1", "i2", "i3"]}
    code = f"""
import json, transformers
from recllm.model.modeling_recllm import RecllmModel
from recllm.model.processor_recllm import RecllmProcessor
from recllm import Recommender
own = Recommender(RecllmModel.from_pretrained({str(folder)!r}), RecllmProcessor.from_pretrained({str(folder)!r}))
pipe = transformers.pipeline("recommendation", model={str(folder)!r}, trust_remote_code=True)
print(json.dumps([own.recommend({request!r}, top_k=2), pipe({request!r}, top_k=2)]))
"""
    out = run(installed / "python", "-c", code, cwd=tmp_path, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "hf"))
    own, piped = json.loads(out.splitlines()[-1])
    assert own == piped == recommender.recommend(request, top_k=2)


# ---- what it says of what it needs


def test_dependencies_have_a_range_and_pins_stand_in_constraints_only():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {k: v for k, v in project["optional-dependencies"].items() if k not in ("test", "encoder")}
    for requirement in [*project["dependencies"], *(r for needed in extras.values() for r in needed)]:
        assert ">=" in requirement and ",<" in requirement and "==" not in requirement, requirement
    # weights have no range: another version is another encoder
    assert all("==" in r for r in project["optional-dependencies"]["encoder"])
    assert "version" in project["dynamic"]  # it stands in recllm/__init__.py and nowhere else


def test_what_the_tests_build_with_is_installed_and_pinned():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().splitlines()
    pinned = {line.split("==")[0] for line in lines}
    assert {"build", "setuptools", "optuna", "alembic", "sqlalchemy"} <= pinned and len(lines) == len(pinned)
    assert all(find_spec(name) for name in ("build", "setuptools"))


# ---- workflows


def workflow(name: str) -> dict:
    """A parsed workflow; YAML 1.1 reads its key `on` as true."""
    found = yaml.safe_load((WORKFLOWS / name).read_text(encoding="utf-8"))
    assert set(found) >= {"name", True, "permissions", "jobs"}
    return {"on" if key is True else key: value for key, value in found.items()}


def commands(job: dict) -> str:
    return "\n".join(step.get("run", "") for step in job["steps"])


def test_the_test_workflow_calls_scripts_test_on_every_python_that_is_supported():
    found = workflow("test.yml")
    assert {"push", "pull_request", "workflow_call"} <= set(found["on"])
    assert "ruff check recllm tests scripts" in commands(found["jobs"]["lint"])
    job = found["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert "scripts/test" in commands(job).splitlines() and os.access(ROOT / "scripts" / "test", os.X_OK)
    assert job["env"]["PYTHON"] == "python${{ matrix.python }}" and '"$PYTHON" -m venv' in (ROOT / "scripts" / "test").read_text()


def test_the_build_workflow_publishes_on_a_tag_only_after_the_tests_by_a_trusted_publisher():
    found = workflow("build.yml")
    assert found["on"]["push"] == {"tags": ["v*"]} and found["permissions"] == {"contents": "read"}
    jobs = found["jobs"]
    assert jobs["test"]["uses"] == "./.github/workflows/test.yml" and jobs["build"]["needs"] == "test"
    assert "python -m build" in commands(jobs["build"]) and "twine check --strict dist/*" in commands(jobs["build"])
    publish = jobs["publish"]
    assert publish["needs"] == "build" and publish["if"] == "startsWith(github.ref, 'refs/tags/v')"
    assert publish["permissions"] == {"id-token": "write"}  # no password, no token
    assert [s["uses"] for s in publish["steps"]][-1].startswith("pypa/gh-action-pypi-publish@")
    assert "secrets." not in (WORKFLOWS / "build.yml").read_text(encoding="utf-8")
