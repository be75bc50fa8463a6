"""A W&B server on this machine, as far as a run needs one, and the ways in which a real one may fail.

Works: `works`. From the first request on: `refuses` (401, the key is unknown), `fails` (500), `hangs` (no answer),
`dead` (nobody listens). After some requests: `lost` (nobody listens any more), `mute` (no answer any more).
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = ("refuses", "fails", "hangs", "dead", "lost", "mute")
KEY = 4 * "0a1b2c3d4e"
Variables = dict[str, Any]


class FakeServer(ThreadingHTTPServer):
    """What was asked of it is in `operations`, and what was uploaded in `uploads`, `rows` (history) and `views`."""

    daemon_threads, allow_reuse_address = True, True

    def __init__(self, fault: str, after: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.fault, self.after, self.closing = fault, after, threading.Event()
        self.operations: list[str] = []
        self.uploads: dict[str, bytes] = {}
        self.rows: list[dict[str, Any]] = []
        self.views: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What makes W&B use it."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The other side may be gone; that is no trouble of the server."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeServer

    def log_message(self, *_: Any) -> None:
        return

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server, fault = self.server, self.server.fault
        server.operations.append(_operation(self.path, body))
        is_late = len(server.operations) > server.after
        if fault == "hangs" or (fault == "mute" and is_late):
            server.closing.wait()
        elif fault == "lost" and is_late:
            self.close_connection = True
            server.socket.close()
        elif fault in ("refuses", "fails"):
            self._send(401 if fault == "refuses" else 500, {"error": fault})
        else:
            self._send(200, self._answer(body))

    do_GET = do_PUT = do_POST

    def _answer(self, body: bytes) -> dict[str, Any]:
        if self.path.startswith("/upload/"):
            self.server.uploads[self.path.removeprefix("/upload/")] = body
        elif self.path.endswith("/file_stream"):
            history = json.loads(body).get("files", {}).get("wandb-history.jsonl", {})
            self.server.rows += [json.loads(line) for line in history.get("content", [])]
        elif self.path == "/graphql":
            asked = json.loads(body)
            name, known = _operation(self.path, body), ANSWERS
            variables = asked.get("variables") or {}
            self.server.views += [variables] if name == "UpsertView2" else []
            if name not in known:
                return {"data": None, "errors": [{"message": f"unknown operation {name}"}]}
            return {"data": known[name](variables, f"{self.server.url}/upload")}
        return {}

    def _send(self, status: int, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _operation(path: str, body: bytes) -> str:
    if path != "/graphql":
        return path
    found = re.search(r"(?:query|mutation)\s+(\w+)", json.loads(body)["query"])
    return found[1] if found else path


def _viewer(_: Variables, __: str) -> dict[str, Any]:
    user = {"id": "u", "entity": "me", "username": "me", "email": "me@example.com", "flags": "{}"}
    return {"viewer": user | {"teams": {"edges": []}}}


def _run(variables: Variables, _: str) -> dict[str, Any]:
    project = {"id": "p", "name": variables.get("project"), "entity": {"id": "e", "name": "me"}}
    bucket = {"id": "b", "name": variables.get("name"), "displayName": variables.get("displayName"), "config": "{}"}
    return {"upsertBucket": {"bucket": bucket | {"historyLineCount": 0, "project": project}, "inserted": True}}


def _run_files(variables: Variables, url: str) -> dict[str, Any]:
    files = [{"name": name, "uploadUrl": f"{url}/run/{name}"} for name in variables["files"]]
    return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}


def _artifact(variables: Variables, _: str) -> dict[str, Any]:
    name = variables["input"]["artifactCollectionName"]
    return {
        "createArtifact": {"artifact": {"id": name, "state": "PENDING", "artifactSequence": {"latestArtifact": None}}}
    }


def _manifest(variables: Variables, url: str, key: str = "createArtifactManifest") -> dict[str, Any]:
    name = variables.get("artifactID") or variables["artifactManifestID"].removeprefix("manifest-")
    file = {"id": "f", "name": "m", "displayName": "m", "uploadUrl": f"{url}/manifest/{name}", "uploadHeaders": []}
    return {key: {"artifactManifest": {"id": f"manifest-{name}", "file": file | {"artifact": {"id": name}}}}}


def _artifact_files(variables: Variables, url: str) -> dict[str, Any]:
    edges = []
    for spec in variables["input"]["artifactFiles"]:
        place = f"{url}/artifact/{spec['artifactID']}/{spec['name']}"
        node = {"id": "f", "name": spec["name"], "displayName": spec["name"], "uploadUrl": place, "uploadHeaders": []}
        edges.append({"node": node | {"storagePath": "x", "uploadMultipartUrls": None, "artifact": {"id": "a"}}})
    return {"createArtifactFiles": {"files": {"edges": edges}}}


ANSWERS: dict[str, Callable[[Variables, str], dict[str, Any]]] = {
    "Viewer": _viewer,
    "ServerFeaturesQuery": lambda *_: {"serverInfo": {"features": []}},
    "GetDefaultEntity": _viewer,
    "UpsertView2": lambda *_: {"upsertView": {"view": {"id": "v", "name": "nw-abc-v"}, "inserted": True}},
    "RunResumeStatus": lambda *_: {"model": None},
    "OrganizationCoreWeaveOrganizationID": lambda *_: {"entity": {"organization": None}},
    "UpsertBucket": _run,
    "CreateRunFiles": _run_files,
    "ArtifactType": lambda *_: {"project": None},
    "CreateArtifact": _artifact,
    "CreateArtifactManifest": _manifest,
    "UpdateArtifactManifest": lambda variables, url: _manifest(variables, url, "updateArtifactManifest"),
    "CreateArtifactFiles": _artifact_files,
    "CommitArtifact": lambda *_: {"commitArtifact": {"artifact": {"id": "a", "digest": "d"}}},
    "NotifyScriptableRunAlert": lambda *_: {"notifyScriptableRunAlert": {"success": True}},
}


@contextmanager
def serving(fault: str = "works", after: int = 12) -> Iterator[FakeServer]:
    """A server while the block runs.

    Args:
        fault: how it fails; `works` for not at all.
        after: requests that `lost` and `mute` answer before.
    """
    server = FakeServer(fault, after)
    if fault == "dead":
        server.socket.close()
        yield server
        return
    thread = threading.Thread(target=_serve, args=[server], daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        if server.fault != "lost":
            server.shutdown()
        server.server_close()


def _serve(server: FakeServer) -> None:
    try:
        server.serve_forever(poll_interval=0.1)
    except (OSError, ValueError):  # its socket was closed: it is lost
        return
