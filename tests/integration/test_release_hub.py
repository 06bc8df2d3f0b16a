"""Push and load over HTTP: huggingface_hub's real client against a Hub on this machine."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from recllm.model.errors_recllm import ReleaseError
from recllm.model.manifest_recllm import MANIFEST
from recllm.model.push_recllm import TRIES, _retried
from recllm.recommend.build import recommender_of
from tests.hub_server import TOKEN, Repository, hub
from tests.strangers import run_stranger

ROOT = Path(__file__).parent.parent.parent
REPO = "someone/films"
REQUEST = {"context": {"time": 1700090000}, "candidates": [f"i{k}" for k in range(10)]}


@pytest.fixture
def server():
    with hub() as found:
        yield found


@pytest.fixture(scope="module")
def folders(made, tmp_path_factory):
    place = tmp_path_factory.mktemp("pushed")
    whole = recommender_of(made)
    plots = {"calibration-0.png": b"\x89PNG of a test"}
    return {form: whole.save_pretrained(place / form, "# card\n", {"name": "rich"}, form=form, plots=plots) for form in ("full", "merged")}


def client(server, tmp_path):
    """Environment of a process whose Hub is the server."""
    return {"HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


def pushed(server, tmp_path, folder, wait=0.01, **options):
    """(exit status, stdout, stderr) of a push in a process of its own."""
    code = f"""
        import sys
        from recllm.model.push_recllm import push_folder
        from pathlib import Path
        try:
            print(push_folder(Path({str(folder)!r}), {REPO!r}, wait={wait}, say=lambda t: print(t, file=sys.stderr), **{options!r}))
        except ValueError as error:
            print(error, file=sys.stderr)
            sys.exit(2)
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **client(server, tmp_path)}
    found = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=300, env=environment)
    return found.returncode, found.stdout, found.stderr


def files_of(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_release_is_pushed_in_one_commit_tagged_and_tried_again_when_the_hub_is_busy(server, folders, tmp_path):
    # given a Hub that is busy once at each step
    server.faults += [["POST", "/api/repos/create", 503, 1], ["POST", f"/api/models/{REPO}/commit", 503, 1],
                      ["POST", f"/api/models/{REPO}/tag", 502, 1]]
    # when
    status, out, err = pushed(server, tmp_path, folders["full"], private=True, revision="v1")
    # then
    assert status == 0, err
    repository = server.repositories[REPO]
    tree = repository.commits[repository.branches["main"]]
    assert {n: c for n, c in tree.items() if n != ".gitattributes"} == files_of(folders["full"])
    assert repository.private and repository.tags == {"v1": repository.branches["main"]} and len(repository.commits) == 2
    assert out.strip() == f"{server.url}/{REPO}/commit/{repository.branches['main']}"
    assert err.count("try 2 of 5") == 3 and "someone/films: upload: " in err
    # and a tag that is taken is refused before anything is uploaded
    status, _, err = pushed(server, tmp_path, folders["full"], revision="v1")
    assert status == 2 and 'found "v1" there: choose another' in err and len(repository.commits) == 2
    # and another form takes the place of the first: what only the first had is gone, what others put there stays
    repository.add({**tree, "notes.txt": b"mine"})
    status, _, err = pushed(server, tmp_path, folders["merged"], revision="v2")
    assert status == 0, err
    tree = repository.commits[repository.tags["v2"]]
    assert set(tree) == {*files_of(folders["merged"]), ".gitattributes", "notes.txt"} and not any(n.startswith("peft/") for n in tree)
    assert "peft/body/adapter_config.json" in repository.commits[repository.tags["v1"]]


def test_a_hub_that_stays_away_or_refuses_is_one_line(server, folders, tmp_path):
    server.faults.append(["POST", f"/api/models/{REPO}/commit", 503, 99])
    status, out, err = pushed(server, tmp_path, folders["full"])
    assert status == 2 and out == "" and f"someone/films: upload: tried {TRIES} times, found" in err.splitlines()[-1]
    assert list(server.repositories[REPO].commits[server.repositories[REPO].branches["main"]]) == [".gitattributes"]

    server.faults[:] = [["POST", "/api/repos/create", 403, 99]]
    status, _, err = pushed(server, tmp_path, folders["full"])
    assert status == 0, err  # who may not create repositories may still write to this one
    server.repositories.clear()
    status, _, err = pushed(server, tmp_path, folders["full"])
    assert status == 2 and len(err.splitlines()) == 1 and "the Hub refused (403" in err and "hf auth login" in err


def test_only_what_the_network_did_is_tried_again():
    tries = []

    def fail(error):
        tries.append(error)
        raise error

    with pytest.raises(ReleaseError, match="tried 5 times, found reset"):
        _retried("x", lambda: fail(ConnectionResetError("reset")), lambda _: None, 0)
    assert len(tries) == TRIES
    with pytest.raises(ReleaseError, match=r"the Hub refused \(KeyError: 'x'\)"):
        _retried("x", lambda: fail(KeyError("x")), lambda _: None, 0)
    assert len(tries) == TRIES + 1


@pytest.mark.parametrize("form", ["full", "merged"])
def test_a_stranger_fetches_only_what_is_needed(form, server, folders, made, tmp_path):
    # given two releases under two tags
    for name in ("full", "merged"):
        status, _, err = pushed(server, tmp_path / "author", folders[name], revision=name)
        assert status == 0, err
    server.calls.clear()
    # when one of them is loaded by its name
    out = run_stranger(f"""
        import json, transformers
        pipe = transformers.pipeline("recommendation", model={REPO!r}, revision={form!r}, trust_remote_code=True)
        print(json.dumps({{n: v if n == "item_id" else v.tolist() for n, v in pipe.recommender.predict([{REQUEST!r}])[0].items()}}))
    """, tmp_path, ("recllm", "peft") if form == "merged" else ("recllm",), **client(server, tmp_path))  # fmt: skip
    # then
    expected = recommender_of(made).predict([REQUEST])[0]
    found = json.loads(out.splitlines()[-1])
    for name in list(expected)[1:]:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)
    names = files_of(folders[form])
    code = {n for n in names if n.endswith(".py")}
    needed = {"config.json", "model.safetensors", "preprocessor_config.json", "processor_spec.json", "catalogue.jsonl", "tokenizer.json",
              "catalogue.safetensors", "item_counts.safetensors", "relations.safetensors", MANIFEST}  # fmt: skip
    fetched = server.fetched(REPO)
    assert fetched >= needed and fetched <= needed | code
    oids = {path.split("/")[4] for method, path, s in server.calls if "/resolve/" in path and method == "GET" and s == 200}
    assert oids == {server.repositories[REPO].tags[form]}  # every file of the same commit
    # and the second time nothing is fetched
    server.calls.clear()
    run_stranger(f"""
        import transformers
        transformers.AutoModel.from_pretrained({REPO!r}, revision={form!r}, trust_remote_code=True)
        transformers.AutoProcessor.from_pretrained({REPO!r}, revision={form!r}, trust_remote_code=True)
    """, tmp_path, **client(server, tmp_path))  # fmt: skip
    assert server.fetched(REPO) == set()


def test_recllm_loads_by_name_without_remote_code_and_checks_the_cache(server, folders, tmp_path):
    assert pushed(server, tmp_path / "author", folders["merged"])[0] == 0
    server.calls.clear()
    code = f"""
        import sys
        from pathlib import Path
        import recllm
        try:
            recommender = recllm.Recommender.from_pretrained({REPO!r})
            print(recommender.model.config.form, type(recommender.model).__module__)
        except ValueError as error:
            print(error)
    """

    def load():
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **client(server, tmp_path)}
        return subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=environment, timeout=300)

    assert load().stdout.split() == ["merged", "recllm.model.modeling_recllm"]
    assert not any(name.endswith((".py", ".md", ".png")) for name in server.fetched(REPO))
    # when a file in the cache is damaged
    blob = next((tmp_path / "hf/hub").rglob("snapshots/*/item_counts.safetensors")).resolve()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    # then it is said, in one line
    assert "item_counts.safetensors: expected sha256" in load().stdout


def test_the_adapter_form_fetches_its_encoder_at_the_recorded_revision(server, made, tiny_encoder, tmp_path):
    # given an encoder of the Hub, of which a later commit holds other weights
    repository = server.repositories["someone/encoder"] = Repository(False)
    oid = repository.add(files_of(Path(tiny_encoder)))
    repository.add({**files_of(Path(tiny_encoder)), "model.safetensors": b"other"})
    whole = recommender_of(made)
    name, revision = made.model.config.encoder_name, made.model.config.encoder_revision
    made.model.config.encoder_name, made.model.config.encoder_revision = "someone/encoder", oid
    try:
        folder = whole.save_pretrained(tmp_path / "adapter", "# card\n", form="adapter")
    finally:
        made.model.config.encoder_name, made.model.config.encoder_revision = name, revision
    assert pushed(server, tmp_path / "author", folder)[0] == 0
    # when
    out = run_stranger(f"""
        import transformers
        pipe = transformers.pipeline("recommendation", model={REPO!r}, trust_remote_code=True)
        print([round(e["click"], 6) for e in pipe({REQUEST!r}, top_k=10)])
    """, tmp_path, **client(server, tmp_path))  # fmt: skip
    # then
    expected = [round(e["click"], 6) for e in whole.recommend(REQUEST, top_k=10)]
    np.testing.assert_allclose(json.loads(out.splitlines()[-1]), expected, atol=2e-6)
    assert server.fetched("someone/encoder") == {"config.json", "model.safetensors"}
    assert "model.safetensors" in server.fetched(REPO)
