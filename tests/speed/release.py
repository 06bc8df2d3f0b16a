"""What the forms of a release weigh and how long they take to load. `scripts/benchmark.py training` writes the figures."""

import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

ROUNDS = 3
LOAD = """
import sys, time
sys.modules["recllm"] = None
import torch, transformers
from transformers import AutoModel, BertModel  # what every use of transformers pays
started = time.perf_counter()
pipe = transformers.pipeline("recommendation", model={folder!r}, trust_remote_code=True)
print(time.perf_counter() - started)
"""


def forms(folder: Path) -> dict[str, dict[str, float]]:
    """Form -> {"release_mb", "load_s"} of the full release in `folder`, written again in each form.

    `release_mb` counts every file of the folder, 1e6 bytes each; `load_s` is the median of three processes without recllm, from a
    stranger's `transformers.pipeline(...)` to a pipeline that is ready, imports of torch and transformers left out. The adapter form finds
    its encoder where the release says, or in RECLLM_ENCODER.
    """
    from recllm.model.forms_recllm import FORMS
    from recllm.model.recommender_recllm import Recommender

    recommender, found = Recommender.from_pretrained(folder), {}
    with TemporaryDirectory() as place:
        for form in FORMS:
            written = recommender.save_pretrained(Path(place) / form, form=form)
            size = sum(p.stat().st_size for p in written.rglob("*") if p.is_file())
            found[form] = {"release_mb": size / 1e6, "load_s": median(_load(written) for _ in range(ROUNDS))}
    return found


def _load(folder: Path) -> float:
    done = subprocess.run([sys.executable, "-I", "-c", LOAD.format(folder=str(folder))], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{folder.name} does not load: {done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])
