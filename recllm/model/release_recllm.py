"""The folder of a release: weights of a form, config, processor, code, card and manifest, all of it or nothing (DESIGN 7)."""

import errno
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError

from .errors_recllm import ReleaseError
from .files_recllm import whole_folder
from .forms_recllm import write_form
from .manifest_recllm import FORMAT, write_manifest
from .modeling_recllm import RecllmModel
from .processor_recllm import RecllmProcessor
from .push_recllm import push_folder

AUTO_MAP = {"AutoConfig": "configuration_recllm.RecllmConfig", "AutoModel": "modeling_recllm.RecllmModel"}
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room on the disk, in a quota, or below a limit of file sizes
PIPELINE = {"recommendation": {"impl": "pipeline_recllm.RecommendationPipeline", "pt": ["AutoModel"], "type": "multimodal"}}


def write_release(model: Any, processor: RecllmProcessor, folder: Path, card: str = "", training: dict[str, Any] | None = None, *,
                  form: str = "full", counts: str = "full", plots: dict[str, bytes] | None = None) -> Path:
    """Write a form (see `forms_recllm`) with config, processor, code, `card` as README.md, `training` settings and `plots` (file name ->
    content): all of it, or nothing. `AutoModel`, the processor and the pipeline load it without recllm.

    An earlier release is replaced; raises ReleaseError for a folder that holds anything else, and where the disk is full.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "processor_spec.json").is_file():
        raise ReleaseError(f"{folder}: expected no folder, an empty one or an earlier release, found other files: choose another")
    with _room(folder), whole_folder(folder) as part:
        config = write_form(model, part, form)
        config.auto_map, config.custom_pipelines, config.architectures = AUTO_MAP, PIPELINE, ["RecllmModel"]
        config.release_format = FORMAT
        config.save_pretrained(part)
        processor.save_pretrained(part, counts=counts)
        for path in sorted(Path(__file__).parent.glob("*_recllm.py")):
            shutil.copyfile(path, part / path.name)
        (part / "README.md").write_text(card, encoding="utf-8")
        for name, content in (plots or {}).items():
            (part / name).write_bytes(content)
        if training is not None:
            (part / "training_config.json").write_text(json.dumps(training, indent=1) + "\n", encoding="utf-8")
        mode = (part / "README.md").stat().st_mode
        for path in part.rglob("*.safetensors"):
            path.chmod(mode)  # safetensors lets nobody else read its files
        write_manifest(part)
    return folder


@contextmanager
def _room(folder: Path) -> Iterator[None]:
    """A full disk as one ReleaseError, whichever library meets it: safetensors and tokenizers have errors of their own for it."""
    try:
        yield
    except Exception as error:
        full = getattr(error, "errno", None) in FULL or any(f"(os error {number})" in str(error) for number in FULL)
        if not full and not isinstance(error, SafetensorError):
            raise
        stands = "the release that stands there is as it was" if folder.exists() else "nothing is left of it"
        raise ReleaseError(f"{folder}: expected room to write a release, found {error}: free some room and write it again; {stands}") \
            from None


class Released:
    """What a recommender is to others: a folder, or a repository of the Hub."""

    model: RecllmModel
    processor: RecllmProcessor

    def __init__(self, model: RecllmModel, processor: RecllmProcessor) -> None:
        self.model, self.processor = model.eval(), processor

    @classmethod
    def from_pretrained(cls, source: str | Path, base_encoder: str | None = None, **hub: Any) -> Self:
        """A release of any form, from a folder or the Hub, without remote code. `base_encoder`: see `forms_recllm.load_form`; `hub` are
        revision, token, cache_dir, local_files_only. Raises ReleaseError for a release that cannot be used."""
        model = RecllmModel.from_pretrained(source, base_encoder=base_encoder, **hub)
        return cls(model, RecllmProcessor.from_pretrained(source, **hub))

    def save_pretrained(self, folder: str | Path, card: str = "", training: dict[str, Any] | None = None, **release: Any) -> Path:
        """Write a release: see `write_release`, which takes form, counts and plots as well. Returns the folder."""
        return write_release(self.model, self.processor, Path(folder).absolute(), card, training, **release)

    def push_to_hub(self, repo_id: str, card: str = "", private: bool = False, token: str | None = None, revision: str | None = None,
                    **release: Any) -> str:
        """Upload what `save_pretrained` writes; `revision` becomes a tag. Returns the address of the commit."""
        with tempfile.TemporaryDirectory() as place:
            folder = self.save_pretrained(Path(place) / "release", card, **release)
            return push_folder(folder, repo_id, private=private, token=token, revision=revision)
