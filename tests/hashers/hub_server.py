"""A loopback server with the HTTP paths of the Hugging Face hub, for the repositories of one process."""

import base64
import hashlib
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_right"


class Hub(ThreadingHTTPServer):
    """Repositories by name, each a list of commits, and the requests that were made."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, list[dict[str, bytes]]] = {}
        self.private: set[str] = set()
        self.blobs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.broken = 0  # status of every answer, if not 0
        self.xet = False  # whether weights are announced as files of the hub's other protocol, xet
        self.stall = threading.Event()  # while set, no request is answered
        self.cuts = 0  # number of downloads that end after half of the file
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, name, files):
        """Commit files to a repository, and return the commit's hash."""
        commits = self.repositories.setdefault(name, [])
        commits.append({**(commits[-1] if commits else {}), **files})
        return self.sha(name, len(commits) - 1)

    @staticmethod
    def sha(name, number):
        return hashlib.sha1(f"{name} {number}".encode()).hexdigest()

    def find(self, name, revision):
        """The files of a revision with its hash; None if there is none."""
        commits = self.repositories[name]
        for number in reversed(range(len(commits))):
            if revision in ("main", self.sha(name, number)):
                return self.sha(name, number), commits[number]
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.route("GET")

    def do_HEAD(self):
        self.route("HEAD")

    def do_POST(self):
        self.route("POST")

    def do_PUT(self):
        self.route("PUT")

    def route(self, method):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        path = self.path.partition("?")[0]
        self.server.requests.append(f"{method} {path}")
        while self.server.stall.is_set():
            time.sleep(0.05)
        if self.server.broken:
            return self.reply(self.server.broken, {"error": "broken"})
        for verb, pattern, answer in ROUTES:
            found = re.fullmatch(pattern, path)
            if found and method in verb:
                return answer(self, body, **found.groupdict())
        return self.reply(404, {"error": f"no such path {path}"})

    def reply(self, status, content, **headers):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    @property
    def is_writer(self):
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def lacks(self, repo):
        """Answer that there is no such repository, as the hub does for private ones too; return whether it did."""
        if repo in self.server.repositories and (repo not in self.server.private or self.is_writer):
            return False
        self.reply(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        return True

    def resolve(self, body, repo, revision, name):
        if self.lacks(repo):
            return
        found = self.server.find(repo, revision)
        if found is None:
            self.reply(404, {"error": f"Invalid rev id: {revision}"}, X_Error_Code="RevisionNotFound")
            return
        sha, files = found
        if name not in files:
            self.reply(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound", X_Repo_Commit=sha)
            return
        etag = f'"{hashlib.sha256(files[name]).hexdigest()}"'
        headers = {"ETag": etag, "X_Repo_Commit": sha, "Accept_Ranges": "bytes"}
        if self.server.xet and name.endswith(".safetensors"):
            refresh = f"{self.server.url}/api/models/{repo}/xet-read-token/{sha}"
            headers |= {"X_Xet_Hash": "0" * 63 + "1", "X_Xet_Refresh_Route": refresh}
        start = int((self.headers.get("Range") or "bytes=0-")[6:].partition("-")[0])
        if self.command == "GET" and self.server.cuts and name.endswith(".safetensors"):
            self.server.cuts -= 1
            self.cut(files[name][start:], headers)
            return
        if start:
            headers["Content_Range"] = f"bytes {start}-{len(files[name]) - 1}/{len(files[name])}"
        self.reply(206 if start else 200, files[name][start:], **headers)

    def cut(self, content, headers):
        """Send half of a file and end the connection."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.close_connection = True

    def create(self, body):
        if not self.is_writer:
            self.reply(401, {"error": "Invalid username or password."})
            return
        wanted = json.loads(body)
        name = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
        if name in self.server.repositories:
            self.reply(409, {"error": "You already created this model repo", "url": f"{self.server.url}/{name}"})
            return
        self.server.add(name, {})
        if wanted.get("private") or wanted.get("visibility") == "private":
            self.server.private.add(name)
        self.reply(200, {"url": f"{self.server.url}/{name}", "name": name, "id": name})

    def validate(self, body):
        content = json.loads(body)["content"]
        wrong = "license: no-such-licence" in content
        errors = [{"message": '"license" must be one of [apache-2.0, mit, ...]'}] if wrong else []
        self.reply(400 if errors else 200, {"errors": errors, "warnings": []})

    def preupload(self, body, repo, revision):
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        self.reply(200, {"files": modes})

    def batch(self, body, repo):
        objects = [
            {
                "oid": wanted["oid"],
                "size": wanted["size"],
                "actions": {"upload": {"href": f"{self.server.url}/blobs/{wanted['oid']}", "header": {}}},
            }
            for wanted in json.loads(body)["objects"]
        ]
        self.reply(200, {"transfer": "basic", "objects": objects})

    def put_blob(self, body, oid):
        self.server.blobs[oid] = body
        self.reply(200, {})

    def commit(self, body, repo, revision):
        files = {}
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
        sha = self.server.add(repo, files)
        url = f"{self.server.url}/{repo}/commit/{sha}"
        self.reply(200, {"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})


REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"
ROUTES = [
    ("GET HEAD", f"/{REPO}/resolve/(?P<revision>[^/]+)/(?P<name>.+)", Handler.resolve),
    ("POST", "/api/repos/create", Handler.create),
    ("POST", "/api/validate-yaml", Handler.validate),
    ("POST", f"/api/models/{REPO}/preupload/(?P<revision>[^/]+)", Handler.preupload),
    ("POST", rf"/{REPO}\.git/info/lfs/objects/batch", Handler.batch),
    ("PUT", r"/blobs/(?P<oid>\w+)", Handler.put_blob),
    ("POST", f"/api/models/{REPO}/commit/(?P<revision>[^/]+)", Handler.commit),
]
