"""A Hub on this machine: the few calls of its HTTP API that a push and `from_pretrained` make, over repositories in memory.

Written against huggingface_hub 2.4 (`hf_api`, `_commit_api`, `lfs`, `file_download`), whose real client talks to it with
HF_ENDPOINT=http://127.0.0.1:PORT and HF_HUB_DISABLE_XET=1.
"""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_a_test"
LARGE = (".safetensors", ".png")  # what goes by LFS, as .gitattributes of a new repository says


@dataclass
class Repository:
    """Commits as whole trees, path -> content; `refs` are branches and tags."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def add(self, tree, branch="main"):
        oid = hashlib.sha1(f"{len(self.commits)} {sorted(tree)}".encode()).hexdigest()
        self.commits[oid], self.branches[branch] = tree, oid
        return oid

    def oid(self, revision):
        found = self.branches.get(revision) or self.tags.get(revision) or revision
        return found if found in self.commits else None


class Hub:
    """State of the server: `repositories`, every call as (method, path, status) in `calls`, and in `faults` which calls to answer with an
    error, as [method, beginning of the path, status, how often]."""

    def __init__(self):
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.calls: list[tuple[str, str, int]] = []
        self.faults: list[list] = []
        self.lock = threading.Lock()
        self.url = ""

    def fetched(self, repository):
        """Names of the files that were downloaded from a repository, each once."""
        mark = f"/{repository}/resolve/"
        return {path.removeprefix(mark).split("/", 1)[1] for method, path, status in self.calls
                if method == "GET" and path.startswith(mark) and status == 200}  # fmt: skip

    def fault(self, method, path):
        for fault in self.faults:
            if fault[0] == method and path.startswith(fault[1]) and fault[3] > 0:
                fault[3] -= 1
                return fault[2]
        return None


class Refused(Exception):
    """An HTTP error with the code that the client reads."""

    def __init__(self, status, code=""):
        super().__init__(code)
        self.status, self.code = status, code


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_):
        pass

    def do(self):
        path = unquote(urlsplit(self.path).path)
        body = self._body()
        with self.hub.lock:
            try:
                if status := self.hub.fault(self.command, path):
                    raise Refused(status)
                status, headers, content = self._answer(path, body)
            except Refused as refused:
                status, headers = refused.status, {"X-Error-Code": refused.code, "X-Error-Message": refused.code or "out of order"}
                content = json.dumps({"error": refused.code}).encode()
            self.hub.calls.append((self.command, path, status))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do

    def _body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, path, body):
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if self.command in ("POST", "PUT", "DELETE") and not known and not path.startswith("/lfs/"):
            raise Refused(401)
        if path.startswith("/lfs/"):
            oid = path.rsplit("/", 1)[1]
            if hashlib.sha256(body).hexdigest() != oid:
                raise Refused(400)
            self.hub.large[oid] = body
            return 200, {}, b""
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if path.startswith("/api/models/"):
            owner, name, *rest = path.removeprefix("/api/models/").split("/")
            return self._model(f"{owner}/{name}", self._repository(f"{owner}/{name}", known), rest, body)
        if path.endswith(".git/info/lfs/objects/batch"):
            return self._batch(json.loads(body))
        owner, name, verb, *rest = path.strip("/").split("/")
        if verb == "resolve":
            return self._resolve(self._repository(f"{owner}/{name}", known), rest[0], "/".join(rest[1:]))
        raise Refused(404)

    def _json(self, plain, status=200):
        return status, {"Content-Type": "application/json"}, json.dumps(plain).encode()

    def _repository(self, name, known):
        found = self.hub.repositories.get(name)
        if found is None or (found.private and not known):
            raise Refused(404, "RepoNotFound")
        return found

    def _create(self, asked):
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repositories:
            return self._json({"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"}, 409)
        private = bool(asked.get("private")) or asked.get("visibility") == "private"
        self.hub.repositories[name] = Repository(private)
        self.hub.repositories[name].add({".gitattributes": b"*.safetensors filter=lfs\n"})
        return self._json({"url": f"{self.hub.url}/{name}", "name": name, "id": "1"})

    def _model(self, name, repository, rest, body):
        verb, revision = (rest[0] if rest else "revision"), (rest[1] if len(rest) > 1 else "main")
        if verb == "refs":
            refs = {kind: [{"name": n, "ref": f"refs/{where}/{n}", "targetCommit": oid} for n, oid in found.items()]
                    for kind, where, found in (("branches", "heads", repository.branches), ("tags", "tags", repository.tags))}
            return self._json({**refs, "converts": []})
        oid = repository.oid(revision)
        if oid is None:
            raise Refused(404, "RevisionNotFound")
        tree = repository.commits[oid]
        if verb == "revision":
            return self._json({"id": name, "modelId": name, "sha": oid, "private": repository.private, "tags": [], "downloads": 0,
                               "likes": 0, "library_name": "transformers", "siblings": [{"rfilename": p} for p in tree]})
        if verb == "tree":
            below = "/".join(rest[2:])
            return self._json([{"type": "file", "path": p, "size": len(c), "oid": hashlib.sha1(c).hexdigest()} for p, c in tree.items()
                               if p.startswith(below)])
        if verb == "preupload":
            files = json.loads(body)["files"]
            return self._json({"files": [{"path": f["path"], "shouldIgnore": False,
                                          "uploadMode": "lfs" if f["path"].endswith(LARGE) else "regular"} for f in files]})
        if verb == "commit":
            return self._commit(name, repository, revision, dict(tree), body)
        if verb == "tag":
            tag = json.loads(body)["tag"]
            if tag in repository.tags:
                raise Refused(409)
            repository.tags[tag] = oid
            return self._json({})
        raise Refused(404)

    def _commit(self, name, repository, revision, tree, body):
        for line in body.decode().splitlines():
            step = json.loads(line)
            value = step["value"]
            if step["key"] == "file":
                tree[value["path"]] = base64.b64decode(value["content"])
            elif step["key"] == "lfsFile":
                tree[value["path"]] = self.hub.large[value["oid"]]
            elif step["key"] == "deletedFile":
                del tree[value["path"]]
        oid = repository.add(tree, revision)
        return self._json({"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "hookOutput": ""})

    def _batch(self, asked):
        objects = [{**o, **({} if o["oid"] in self.hub.large else {"actions": {"upload": {"href": f"{self.hub.url}/lfs/{o['oid']}"}}})}
                   for o in asked["objects"]]
        return self._json({"transfer": "basic", "objects": objects})

    def _resolve(self, repository, revision, path):
        oid = repository.oid(revision)
        if oid is None:
            raise Refused(404, "RevisionNotFound")
        if path not in repository.commits[oid]:
            raise Refused(404, "EntryNotFound")
        content = repository.commits[oid][path]
        return 200, {"X-Repo-Commit": oid, "ETag": f'"{hashlib.sha256(content).hexdigest()}"', "Accept-Ranges": "bytes"}, content


@contextmanager
def hub():
    """A running server: `with hub() as found:` gives its Hub."""
    state = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": state}))
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
