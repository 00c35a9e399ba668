"""An identity provider and OAuth clients that know nothing of Mayfly: PyJWT makes users' tokens, Authlib exchanges them for task tokens,
and the provider logs the user out.

usage: users.py keys DIR (makes the provider's key and its JWK Set), or users.py IP URL ANCHORS.pem SVIDS AUDIENCE DIR (see workloads.py),
which prints one JSON object.
"""

import json
import sys
import time
import uuid
from pathlib import Path

import jwt
import requests
from authlib.integrations.base_client import OAuthError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from workloads import Place, Workload

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
KINDS = {kind: f"urn:ietf:params:oauth:token-type:{kind}" for kind in ("id_token", "jwt", "access_token")}
ISSUER = "https://login.example.org"


def make_keys(directory: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (directory / "provider.pem").write_bytes(secret)
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())) | {"kid": "login-1", "use": "sig", "alg": "RS256"}
    (directory / "provider.jwks").write_text(json.dumps({"keys": [public]}))


class Provider:
    """An identity provider with one user, who uses one client."""

    def __init__(self, directory: Path, audience: str) -> None:
        self.key, self.audience = (directory / "provider.pem").read_text(), audience

    def sign(self, typ: str, **claims) -> str:
        now = int(time.time())
        claims = {"iss": ISSUER, "sub": "alice", "aud": self.audience, "iat": now - 5, "exp": now + 300, "jti": str(uuid.uuid4())} | claims
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, self.key, algorithm="RS256", headers={"kid": "login-1", "typ": typ})

    def token(self, typ: str = "JWT", **claims) -> str:
        return self.sign(typ, **({"azp": "portal", "sid": "s1"} | claims))


def refused(action) -> str:
    try:
        answer = action()
    except OAuthError as error:
        return error.error
    raise SystemExit(f"this was to be refused: {answer}")


def main() -> None:
    place, audience = Place(sys.argv[1:5]), sys.argv[5]
    url, anchors, found = place.url, place.anchors, place.metadata
    provider = Provider(Path(sys.argv[6]), found["issuer"])
    token, introspection = place.endpoint("token"), place.endpoint("introspection")
    planner, reader, files = (place.workload(name) for name in ("planner", "reader", "files"))
    wish = {"resource": audience, "scope": "list read", "task_purpose": "her report", "task_delegable": audience}

    def exchange(who: Workload, subject_token: str, kind: str = "id_token", **more) -> dict:
        return who.fetch_token(token, grant_type=EXCHANGE, subject_token=subject_token, subject_token_type=KINDS[kind], **(wish | more))

    def introspected(which: dict) -> dict:
        return files.introspect_token(introspection, token=which["access_token"]).json()

    hers = provider.token()
    root = exchange(planner, hers)
    child = exchange(reader, root["access_token"], "access_token")
    by_other_names = [exchange(planner, provider.token(), "jwt"), exchange(planner, provider.token("at+jwt", azp=None, client_id="portal"), "access_token")]
    named = exchange(planner, provider.token(azp=planner.client_id))
    report = {
        "root": root["task"],
        "introspected": [introspected(which) for which in (root, child, *by_other_names, named)],
        "refused": {
            "acted_with_by_another": refused(lambda: exchange(planner, provider.token(act={"sub": reader.client_id}))),
            "for_another": refused(lambda: exchange(planner, provider.token(may_act={"sub": reader.client_id}))),
            "of_another_client": refused(lambda: exchange(planner, provider.token(azp="elsewhere"))),
            "for_somebody_else": refused(lambda: exchange(planner, provider.token(aud="https://elsewhere.example.org"))),
            "a_task_as_a_user": refused(lambda: exchange(reader, root["access_token"], "id_token")),
            "a_user_as_a_task": refused(lambda: exchange(planner, provider.token(iss=found["issuer"]), "access_token")),
            "with_an_actor_token": refused(lambda: exchange(planner, hers, actor_token=root["access_token"], actor_token_type=KINDS["access_token"])),
            "another_kind": refused(lambda: planner.fetch_token(token, grant_type=EXCHANGE, subject_token=hers, subject_token_type="urn:ietf:params:oauth:token-type:saml2", **wish)),
            "no_process": refused(lambda: exchange(files, hers)),
        },
    }
    event = {"http://schemas.openid.net/event/backchannel-logout": {}}
    logout = provider.sign("logout+jwt", sid="s1", events=event, iat=int(time.time()))
    report["refused"]["a_logout"] = refused(lambda: exchange(planner, logout))
    where = f"{url}:8444/users/login/logout"
    report["no_logout"] = requests.post(where, data={"logout_token": hers}, verify=anchors, timeout=20).status_code
    report["logout"] = requests.post(where, data={"logout_token": logout}, verify=anchors, timeout=20).status_code
    report["after"] = [introspected(which) for which in (root, child)]
    report["refused"]["logged_out"] = refused(lambda: exchange(planner, hers))
    print(json.dumps(report))


if sys.argv[1] == "keys":
    make_keys(Path(sys.argv[2]))
else:
    main()
