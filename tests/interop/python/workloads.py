"""Workloads as OAuth clients: each has an X.509-SVID in files, and an OAuth library that knows nothing of Mayfly."""

import json
import socket
from pathlib import Path
from urllib.parse import urlsplit

import requests
from authlib.integrations.requests_client import OAuth2Session


class Workload(OAuth2Session):
    """An OAuth client with the SVID of a workload."""

    def __init__(self, directory: Path, spiffe_id: str, anchors: str) -> None:
        super().__init__(client_id=spiffe_id, token_endpoint_auth_method="none")
        # Nothing of the machine's own settings: they would stand above these.
        self.trust_env = False
        self.cert, self.verify = (str(directory / "svid.pem"), str(directory / "key.pem")), anchors


class Place:
    """IP URL ANCHORS.pem SVIDS: where an issuer is, how it calls itself, whom to believe, and a directory in which the SVIDs of `planner`,
    `reader` and `files` are kept as `svid x509 watch --write` keeps them."""

    def __init__(self, arguments: list[str]) -> None:
        self.ip, self.url, self.anchors, self.svids = arguments
        self.directory = Path(self.svids)
        self.serve_name(urlsplit(self.url).hostname)
        self.metadata = requests.get(f"{self.url}:8444/.well-known/oauth-authorization-server/task", verify=self.anchors, timeout=20).json()

    def serve_name(self, host: str) -> None:
        """What a name server would do for the issuer's name."""
        original = socket.getaddrinfo
        socket.getaddrinfo = lambda name, *more, **named: original(self.ip if name == host else name, *more, **named)

    def endpoint(self, which: str) -> str:
        return self.metadata["mtls_endpoint_aliases"][f"{which}_endpoint"]

    def workload(self, name: str, spiffe_id: str | None = None) -> Workload:
        identity = spiffe_id or json.loads((self.directory / f"{name}.id").read_text())
        return Workload(self.directory / name, identity, self.anchors)
