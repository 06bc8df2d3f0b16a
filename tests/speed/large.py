"""One training step of a BERT-large-shaped encoder with LoRA and layers computed again. `python -m tests.speed.large` is such a process."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
SHAPE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096, "vocab_size": 30_522,
         "max_position_embeddings": 512}  # of bert-large-uncased
TOKENS = 2_048  # padded, of the batch
TRAINING = {"tokens_per_batch": TOKENS, "gradient_checkpointing": True}


def _encoder(folder: Path, shape: dict[str, int]) -> str:
    """A random encoder of this shape with the tests' tokenizer."""
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    from tests.conftest import write_tiny_encoder

    tokenizer = write_tiny_encoder(folder / "words")
    BertModel(BertConfig(**shape)).save_pretrained(folder / "encoder")
    PreTrainedTokenizerFast.from_pretrained(tokenizer).save_pretrained(folder / "encoder")
    return str(folder / "encoder")


def _step(folder: Path, shape: dict[str, int], training: dict[str, Any]) -> dict[str, Any]:
    """Train one step: seconds, trained parameters, and the peak of this process's (or the device's) memory."""
    import torch

    from recllm.config import Config
    from recllm.data.prepare import prepare
    from recllm.training import loop
    from recllm.training.run import train
    from tests.worlds import rich_config, rich_log

    config = rich_config(folder, _encoder(folder, shape), layers=shape["num_hidden_layers"], lora_rank=8, stride=100, overlap=100)
    (folder / "log.jsonl").write_text(rich_log(users=20, events=120), encoding="utf-8")
    plain = config.model_dump(mode="json", by_alias=True) | {"root": str(folder / "runs")}
    plain["training"] = training
    config = Config.model_validate(plain)
    prepare(config, say=lambda _: None)
    found: dict[str, Any] = {}
    step, plan = loop.Trainer._step, loop.plan
    loop.plan = lambda *given: sorted(plan(*given), key=lambda batch: -int(given[0][batch].sum()))  # the fullest batch first

    class Enough(BaseException):
        """Ends the run after its first step."""

    def stepped(self: Any, *args: Any) -> None:
        loading, begun = _peak(reset=True), time.monotonic()
        step(self, *args)
        found.update(peak_gb=_peak(), loading_gb=loading, step_s=time.monotonic() - begun, tokens=int(self.train.sizes[args[0]].sum()),
                     device=self.accelerator.device.type,
                     trained_parameters=sum(p.numel() for p in self.stepping.parameters),
                     parameters=sum(p.numel() for p in self.setup.model.parameters()))
        raise Enough

    loop.Trainer._step = stepped
    try:
        train(config, say=lambda _: None)
    except Enough:
        assert torch.is_grad_enabled()
    return found


def _peak(reset: bool = False) -> float:
    """Most memory so far in GB, since the last reset: of the device where there is one, else of this process."""
    import torch

    if torch.cuda.is_available():
        found = torch.cuda.max_memory_allocated() / 1e9
        torch.cuda.reset_peak_memory_stats() if reset else None
        return found
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    return int(status["VmHWM"].split()[0]) * 1024 / 1e9


def large(shape: dict[str, int] | None = None, **training: Any) -> dict[str, Any]:
    """`peak_gb` of one step (resident memory of the process, weights included, or of the GPU), `loading_gb` of everything before it,
    seconds and parameters.

    `training` are settings over TRAINING, such as gradient_checkpointing=False.
    """
    with tempfile.TemporaryDirectory() as folder:
        argument = json.dumps({"folder": folder, "shape": shape or SHAPE, "training": TRAINING | training})
        found = subprocess.run([sys.executable, "-m", "tests.speed.large", argument], capture_output=True, text=True, cwd=ROOT,
                               env={**os.environ, "HF_HUB_OFFLINE": "1"})
    if found.returncode:
        raise RuntimeError(found.stderr[-3000:])
    return json.loads(found.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    print(json.dumps(_step(Path(given["folder"]), given["shape"], given["training"])))
