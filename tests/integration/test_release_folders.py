"""Malformed release folders are one clear line each, old ones still load, thinned counts serve as whole ones do."""

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import recllm
from recllm.cli import main
from recllm.model.catalogue_recllm import ItemCounts
from recllm.model.errors_recllm import ReleaseError
from recllm.model.manifest_recllm import FORMAT, write_manifest
from recllm.recommend.build import recommender_of
from tests.strangers import run_stranger

OLD = Path(__file__).parent.parent / "data_release"
MOMENT = {"context": {"time": 1700090000}}


@pytest.fixture(scope="module")
def written(made, tmp_path_factory):
    return recommender_of(made).save_pretrained(tmp_path_factory.mktemp("whole") / "release", "# card\n")


@pytest.fixture
def folder(written, tmp_path):
    shutil.copytree(written, tmp_path / "release")
    return tmp_path / "release"


def weights(folder, change):
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def plain(folder, name, change):
    path = folder / name
    found = json.loads(path.read_text())
    path.write_text(json.dumps(change(found) or found))


def cut(folder, name, size=100):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-size])


def text(folder, name, content):
    (folder / name).write_text(content, encoding="utf-8")


def array(folder, name, change):
    from safetensors.numpy import load_file as load
    from safetensors.numpy import save_file as save

    found = load(folder / name)
    change(found)
    save(found, folder / name)


# what somebody did to a folder, whether its manifest was written again after it, and what the line says
FAULTS = {
    "no manifest": (lambda f: (f / "manifest.json").unlink(), False, "expected manifest.json in a release of format 2, found none"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), False, "expected model.safetensors of a release, found none"),
    "no catalogue": (lambda f: (f / "catalogue.jsonl").unlink(), True, "expected catalogue.jsonl of a release, found none"),
    "no relations": (lambda f: (f / "relations.safetensors").unlink(), True, "expected relations.safetensors of a release, found none"),
    "weights cut short": (lambda f: cut(f, "model.safetensors"), False, r"model.safetensors: expected [\d,]+ bytes as manifest.json says"),
    "weights changed": (lambda f: weights(f, lambda s: s["query.bias"].add_(1)), False, "model.safetensors: expected sha256"),
    "config changed": (lambda f: plain(f, "config.json", lambda c: c.update(stride=9)), False, "config.json: expected .* as manifest"),
    "cut short, and the manifest knows": (lambda f: cut(f, "model.safetensors"), True, "model.safetensors: expected a file of a release"),
    "no safetensors": (lambda f: text(f, "model.safetensors", "hello"), True, "model.safetensors: expected a file of a release"),
    "catalogue cut short": (lambda f: cut(f, "catalogue.safetensors"), True, "catalogue.safetensors: expected a file of a release"),
    "counts cut short": (lambda f: cut(f, "item_counts.safetensors"), True, "item_counts.safetensors: expected a file of a release"),
    "wrong shape": (lambda f: weights(f, lambda s: s.update({"query.bias": torch.zeros(5)})), True,
                    r"expected query.bias of shape \[32\] as config.json says, found \[5\]"),
    "a weight too few": (lambda f: weights(f, lambda s: s.pop("query.weight")), True, "expected a weight query.weight, found none"),
    "a weight too many": (lambda f: weights(f, lambda s: s.update(more=torch.zeros(1))), True, "expected no weight more, found one"),
    "NaN": (lambda f: weights(f, lambda s: s["query.bias"].fill_(float("nan"))), True, "found NaN or infinity in query.bias"),
    "layers as text": (lambda f: plain(f, "config.json", lambda c: c.update(layers="two")), True, "expected layers of type int, found str"),
    "config as a list": (lambda f: text(f, "config.json", "[]"), True, "config.json"),
    "config no JSON": (lambda f: text(f, "config.json", "{"), True, "config.json"),
    "later config": (lambda f: plain(f, "config.json", lambda c: c.update(release_format=3)), True, "format 2 or earlier, found 3"),
    "later processor": (lambda f: plain(f, "processor_spec.json", lambda c: c.update(format=3)), True, "format 2 or earlier, found 3"),
    "later manifest": (lambda f: plain(f, "manifest.json", lambda c: c.update(format=3)), False, "format 2 or earlier, found 3"),
    "format as text": (lambda f: plain(f, "manifest.json", lambda c: c.update(format="2")), False, "expected the number .* found '2'"),
    "manifest as a list": (lambda f: text(f, "manifest.json", "[1]"), False, "manifest.json: expected a file of a release"),
    "manifest no JSON": (lambda f: text(f, "manifest.json", "{"), False, "manifest.json: expected a file of a release"),
    "manifest no UTF-8": (lambda f: (f / "manifest.json").write_bytes(b"\xff\xfe"), False, "manifest.json: expected a file of a release"),
    "bytes as text": (lambda f: plain(f, "manifest.json", lambda m: m["files"]["config.json"].update(bytes="1")), False,
                      "expected sha256 as text and bytes as a number"),
    "climbs out": (lambda f: plain(f, "manifest.json", lambda m: m["files"].update({"../x": {"sha256": "", "bytes": 1}})), False,
                   r'expected names below the folder, found "../x"'),
    "absolute": (lambda f: plain(f, "manifest.json", lambda m: m["files"].update({"/etc/x": {"sha256": "", "bytes": 1}})), False,
                 "expected names below the folder"),
    "unnamed": (lambda f: plain(f, "manifest.json", lambda m: m["files"].pop("config.json") and None), False,
                "expected a file that manifest.json names"),
    "spec as a list": (lambda f: plain(f, "processor_spec.json", lambda p: p.update(spec=[])), True, "processor_spec.json: expected a"),
    "no slots": (lambda f: plain(f, "processor_spec.json", lambda p: p["spec"].pop("slots") and None), True, "KeyError: 'slots'"),
    "scales too short": (lambda f: plain(f, "processor_spec.json", lambda p: p["spec"]["mean"].pop() and None), True, "numbers in mean"),
    "item of no kind": (lambda f: text(f, "catalogue.jsonl", "[1]\n"), True, "catalogue.jsonl: expected a file of a release"),
    "an item too many": (lambda f: text(f, "catalogue.jsonl", '{"item_id": "x"}\n'), True, "catalogue.jsonl: expected 20 items"),
    "counts of nobody": (lambda f: array(f, "item_counts.safetensors", lambda a: a["row"].__iadd__(1000) is None), True,
                         "item_counts.safetensors: expected rows of the"),
    "counts without a column": (lambda f: array(f, "item_counts.safetensors", lambda a: a.update(sums=a["sums"][:, :1].copy())), True,
                                "item_counts.safetensors: sums of a row: expected 7"),
    "an array too few": (lambda f: array(f, "catalogue.safetensors", lambda a: a.pop("cat") is None), True, "catalogue.safetensors"),
    "tokenizer": (lambda f: text(f, "tokenizer.json", "{}"), True, "tokenizer.json: expected a tokenizer, found none"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_malformed_folder_is_one_clear_line(fault, folder):
    # given
    change, again, expected = FAULTS[fault]
    change(folder)
    if again:
        write_manifest(folder)
    # when, then
    with pytest.raises((ReleaseError, OSError), match=expected) as error:
        recllm.Recommender.from_pretrained(folder)
    assert "\n" not in str(error.value) and "release" in str(error.value)


def test_the_command_line_says_the_same_line(folder, made, tmp_path, capsys):
    import yaml

    config = made.config.model_dump(mode="json", by_alias=True)
    (tmp_path / "rich.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (tmp_path / "requests.jsonl").write_text(json.dumps(MOMENT) + "\n", encoding="utf-8")
    cut(folder, "model.safetensors")

    files = [str(tmp_path / name) for name in ("rich.yaml", "requests.jsonl", "out")]
    ended = main(["predict", *files, "--release", str(folder)])

    said = capsys.readouterr().err.splitlines()
    assert ended == 2 and len(said) == 1 and "bytes as manifest.json says" in said[0]


def test_a_folder_that_is_no_release_is_named(tmp_path):
    with pytest.raises(ReleaseError, match="expected config.json of a release"):
        recllm.Recommender.from_pretrained(tmp_path)


def test_every_file_of_a_release_is_in_its_manifest(written):
    manifest = json.loads((written / "manifest.json").read_text())
    names = {p.relative_to(written).as_posix() for p in written.rglob("*") if p.is_file()}
    assert manifest["format"] == FORMAT and set(manifest["files"]) == names - {"manifest.json"}
    assert all(entry["bytes"] == (written / name).stat().st_size for name, entry in manifest["files"].items())


# ---- a release of format 1, as it was written before there were manifests


def recorded():
    """(requests, what they were given then)"""
    found = json.loads((OLD / "format-1-scores.json").read_text())
    return [f["request"] for f in found], [f["found"] for f in found]


def same(found, expected):
    for own, old in zip(found, expected, strict=True):
        assert list(own) == list(old) and own["item_id"] == old["item_id"]
        for name in list(old)[1:]:
            np.testing.assert_allclose(own[name], old[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_release_of_format_1_still_gives_its_scores():
    requests, expected = recorded()
    same(recllm.Recommender.from_pretrained(OLD / "format-1").predict(requests), expected)


def test_a_release_of_format_1_loads_with_its_own_code(tmp_path):
    requests, expected = recorded()
    (tmp_path / "requests.json").write_text(json.dumps(requests), encoding="utf-8")
    out = run_stranger(f"""
        import json, transformers
        pipe = transformers.pipeline("recommendation", model={str(OLD / "format-1")!r}, trust_remote_code=True)
        found = pipe.recommender.predict(json.load(open("requests.json")))
        print(json.dumps([{{n: v if n == "item_id" else v.tolist() for n, v in one.items()}} for one in found]))
    """, tmp_path)  # fmt: skip
    same(json.loads(out.splitlines()[-1]), expected)


# ---- release.counts


@pytest.mark.parametrize("how", ["daily", "last"])
def test_thinned_counts_serve_the_end_of_the_log_as_whole_ones_do(how, made, written, tmp_path):
    whole = recommender_of(made)
    end = int(whole.processor.rows.counts.last) // 1000
    requests = [{"context": {"time": end + after}, "candidates": [f"i{k}" for k in range(14)]} for after in (3_601, 90_000, 10**7)]

    thin = recllm.Recommender.from_pretrained(whole.save_pretrained(tmp_path / how, counts=how))

    same(thin.predict(requests), whole.predict(requests))
    sizes = [(f / "item_counts.safetensors").stat().st_size for f in (tmp_path / how, written)]
    assert sizes[0] < 0.7 * sizes[1]


def test_thinned_counts_never_read_a_later_period():
    rng = np.random.default_rng(0)
    hour, items = 3_600_000, 6
    ends = [np.sort(rng.choice(np.arange(1, 24 * 40), 120, replace=False)) * hour for _ in range(items)]
    sums = np.concatenate([np.cumsum(rng.integers(1, 5, (120, 3)), axis=0) for _ in range(items)]).astype(np.float64)
    whole = ItemCounts(hour, np.repeat(np.arange(items), 120), np.concatenate(ends), sums, last=24 * 40 * hour)
    day, week = 86_400_000, 7 * 86_400_000
    rows, times = np.repeat(np.arange(items), 200), rng.integers(0, 45 * 24 * hour, items * 200)

    for how in ("daily", "last"):
        thin = whole.thinned(how, [day, week])
        assert (thin.read(rows, times) <= whole.read(rows, times)).all()
        late = np.full(items, 45 * 24 * hour)
        assert np.array_equal(thin.read(np.arange(items), late), whole.read(np.arange(items), late))
        for span in (day, week):
            assert np.array_equal(thin.recent(np.arange(items), late, span), whole.recent(np.arange(items), late, span))
        midnights = times // day * day
        if how == "daily":  # at midnight the last state of the day before is whole
            assert np.array_equal(thin.read(rows, midnights), whole.read(rows, midnights))
    assert whole.thinned("full", [day]) is whole and len(whole.thinned("last", []).row) == items


# ---- a full disk


def no_room(*_, **__):
    raise SafetensorError('Error while serializing: I/O error: No space left on device (os error 28)')


def no_room_for_a_file(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def no_room_for_a_tokenizer(*_, **__):
    raise Exception("No space left on device (os error 28)")  # as tokenizers says it


@pytest.mark.parametrize(("place", "fails"), [("forms_recllm.save_file", no_room), ("catalogue_recllm.save_file", no_room),
                                              ("release_recllm.write_manifest", no_room_for_a_file),
                                              ("processor_recllm.RecllmProcessor.save_pretrained", no_room_for_a_tokenizer)])
def test_a_full_disk_is_one_line_and_the_old_release_stands(place, fails, folder, made, monkeypatch):
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(f"recllm.model.{place}", fails)
        with pytest.raises(ReleaseError, match="No space left.*free some room and write it again") as error:
            recommender_of(made).save_pretrained(folder, "# new\n")
        assert "\n" not in str(error.value) and str(error.value).startswith(f"{folder}: expected room to write a release")
        assert str(error.value).endswith("the release that stands there is as it was")
        with pytest.raises(ReleaseError, match="nothing is left of it$"):
            recommender_of(made).save_pretrained(folder.parent / "first", "# new\n")
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_other_errors_of_a_release_stay_what_they_are(folder, made, monkeypatch):
    monkeypatch.setattr("recllm.model.release_recllm.write_manifest", lambda _: (folder / "no" / "where").read_bytes())
    with pytest.raises(FileNotFoundError):
        recommender_of(made).save_pretrained(folder, "# new\n")
