"""OAuth clients that know nothing of Mayfly: Authlib obtains task tokens with an X.509-SVID as client certificate, hands them on,
has them introspected and revokes them; PyJWT verifies them by the published keys.

usage: oauth.py IP URL ANCHORS.pem AUDIENCE DIR
In DIR are the SVIDs, as `svid x509 watch --write` keeps them, of `planner`, `reader` and `files`. Prints one JSON object.
"""

import json
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

import jwt
import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"


def by_name(ip: str, host: str) -> None:
    """What a name server would do for the issuer's name."""
    original = socket.getaddrinfo
    socket.getaddrinfo = lambda name, *more, **named: original(ip if name == host else name, *more, **named)


class Workload(OAuth2Session):
    """An OAuth client with the SVID of a workload."""

    def __init__(self, directory: Path, spiffe_id: str, anchors: str) -> None:
        super().__init__(client_id=spiffe_id, token_endpoint_auth_method="none")
        # Nothing of the machine's own settings: they would stand above these.
        self.trust_env = False
        self.cert, self.verify = (str(directory / "svid.pem"), str(directory / "key.pem")), anchors


def refused(action) -> str:
    try:
        answer = action()
    except OAuthError as error:
        return error.error
    raise SystemExit(f"this was to be refused: {answer}")


def main() -> None:
    ip, url, anchors, audience, directory = sys.argv[1:]
    by_name(ip, urlsplit(url).hostname)
    found = requests.get(f"{url}:8444/.well-known/oauth-authorization-server/task", verify=anchors, timeout=20).json()
    jwks = requests.get(f"{url}:8444{urlsplit(found['jwks_uri']).path}", verify=anchors, timeout=20).json()
    token, introspection, revocation = (found["mtls_endpoint_aliases"][f"{which}_endpoint"] for which in ("token", "introspection", "revocation"))

    def workload(name: str) -> Workload:
        identity = json.loads((Path(directory) / f"{name}.id").read_text())
        return Workload(Path(directory) / name, identity, anchors)

    planner, reader, files = workload("planner"), workload("reader"), workload("files")
    wish = {"resource": audience, "scope": "list read", "task_purpose": "a report", "task_delegable": audience}
    root = planner.fetch_token(token, grant_type="client_credentials", **wish)
    keys = {key.key_id: key.key for key in jwt.PyJWKSet.from_dict(jwks).keys}
    kid = jwt.get_unverified_header(root["access_token"])["kid"]
    claims = jwt.decode(root["access_token"], keys[kid], algorithms=["ES256"], issuer=found["issuer"], audience=audience)
    renewed = planner.fetch_token(token, grant_type="client_credentials", task_id=root["task"]["id"])

    part = {"resource": audience, "scope": "read", "task_purpose": "one file", "subject_token_type": ACCESS_TOKEN}
    child = reader.fetch_token(token, grant_type=EXCHANGE, subject_token=root["access_token"], **part)

    def introspected(who: Workload, which: dict) -> dict:
        return who.introspect_token(introspection, token=which["access_token"]).json()

    before = [introspected(files, which) for which in (root, child)]
    report = {
        "root": {name: root[name] for name in ("token_type", "expires_in", "scope", "task")},
        "claims": claims,
        "renewed": renewed["task"]["id"],
        "child": child["task"],
        "introspected": before,
        "not_for_others": introspected(reader, child),
        "refused": {
            "wider": refused(lambda: reader.fetch_token(token, grant_type=EXCHANGE, subject_token=root["access_token"], **(part | {"scope": "read write"}))),
            "elsewhere": refused(lambda: planner.fetch_token(token, grant_type="client_credentials", **(wish | {"resource": "https://elsewhere.example.org/"}))),
            # The actor is who holds the certificate, whatever else is said.
            "actor_token": refused(lambda: reader.fetch_token(token, grant_type=EXCHANGE, subject_token=root["access_token"], actor_token=root["access_token"], actor_token_type=ACCESS_TOKEN, **part)),
            "another_client_id": refused(lambda: Workload(Path(directory) / "reader", planner.client_id, anchors).fetch_token(token, grant_type="client_credentials", **wish)),
            "no_part_of_it": refused(lambda: files.fetch_token(token, grant_type="client_credentials", **wish)),
            "another_grant": refused(lambda: planner.fetch_token(token, grant_type="password", username="u", password="p")),
            "another_task": refused(lambda: reader.fetch_token(token, grant_type="client_credentials", task_id=root["task"]["id"])),
            "revoked_by_another": reader.revoke_token(revocation, token=root["access_token"]).json()["error"],
        },
    }
    # Without a certificate there is no connection, and so no exchange of a token by whoever has found it.
    try:
        requests.post(token, data={"grant_type": EXCHANGE, "subject_token": child["access_token"], **part}, verify=anchors, timeout=20)
        raise SystemExit("a token was exchanged without a certificate")
    except (requests.exceptions.SSLError, requests.exceptions.ConnectionError):
        pass
    twice = requests.post(token, data=f"grant_type=client_credentials&grant_type={EXCHANGE}", headers={"content-type": "application/x-www-form-urlencoded"}, verify=anchors, cert=planner.cert, timeout=20)
    report["refused"]["twice"] = twice.json()["error"]
    large = requests.post(token, data="x=" + "y" * 100_000, headers={"content-type": "application/x-www-form-urlencoded"}, verify=anchors, cert=planner.cert, timeout=20)
    report["refused"]["large"] = large.status_code

    assert planner.revoke_token(revocation, token=root["access_token"]).status_code == 200
    report["after"] = [introspected(files, which) for which in (root, child)]
    report["refused"]["closed"] = refused(lambda: reader.fetch_token(token, grant_type=EXCHANGE, subject_token=root["access_token"], **part))
    assert planner.revoke_token(revocation, token="no token at all").status_code == 200
    print(json.dumps(report))


main()
