"""Scripts that run where recllm cannot be imported: what a stranger sees of a release."""

import subprocess
import sys
import textwrap
from pathlib import Path

BLOCKED = "import sys\nsys.modules['{}'] = None\n"


def run_stranger(code: str, tmp_path: Path, blocked: tuple[str, ...] = ("recllm",), **environment: str) -> str:
    """What a script prints in an isolated interpreter, in a folder of its own, offline unless `environment` says otherwise."""
    text = "".join(BLOCKED.format(name) for name in blocked) + textwrap.dedent(code)
    (tmp_path / "stranger.py").write_text(text, encoding="utf-8")
    plain = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    found = subprocess.run([sys.executable, "-I", "stranger.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300,
                           env=plain | environment)
    assert found.returncode == 0, found.stderr[-3000:]
    return found.stdout
