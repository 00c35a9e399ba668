"""A workload without a client certificate: its JWT-SVID, as py-spiffe fetches it, names it at the public token endpoint, and proofs of
possession that PyJWT signs (RFC 9449) bind what it gets to a key of its own.

usage: dpop.py IP URL ANCHORS.pem SVIDS AUDIENCE (see workloads.py), with SPIFFE_ENDPOINT_SOCKET. Prints one JSON object.
"""

import concurrent.futures
import json
import sys
import time
import uuid

import jwt
import requests
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import ECKey
from spiffe import SpiffeId, WorkloadApiClient
from workloads import Place

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"


class Key:
    def __init__(self) -> None:
        self.private = ec.generate_private_key(ec.SECP256R1())
        self.public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.private.public_key()))

    def thumbprint(self) -> str:
        return ECKey.import_key(self.public).thumbprint()

    def proof(self, url: str, **more) -> str:
        claims = {"htm": "POST", "htu": url, "iat": int(time.time()), "jti": str(uuid.uuid4())} | more
        return jwt.encode(claims, self.private, algorithm="ES256", headers={"typ": "dpop+jwt", "jwk": self.public})


class Client:
    """A workload that names itself by a JWT-SVID."""

    def __init__(self, place: Place, name: str) -> None:
        self.place, self.key = place, Key()
        self.endpoint = place.metadata["token_endpoint"]
        self.id = json.loads((place.directory / f"{name}.id").read_text())
        self.assertion = self.svid(place.metadata["issuer"])

    def svid(self, audience: str) -> str:
        with WorkloadApiClient() as client:
            return client.fetch_jwt_svid(audience={audience}, subject=SpiffeId(self.id)).token

    def ask(self, proofs: list[str] | None = None, assertion: str | None = None, **form) -> requests.Response:
        proofs = [self.key.proof(self.endpoint)] if proofs is None else proofs
        named = {"client_assertion_type": ASSERTION, "client_assertion": assertion or self.assertion}
        # The public URL stands for whatever is in front of port 8444.
        url = self.endpoint.replace(self.place.url, f"{self.place.url}:8444")
        return requests.post(url, data=named | form, headers={"DPoP": ", ".join(proofs)} if proofs else {}, verify=self.place.anchors, timeout=20)

    def granted(self, **form) -> dict:
        answer = self.ask(**form)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, **form) -> list:
        answer = self.ask(**form)
        assert answer.status_code != 200, answer.text
        return [answer.status_code, answer.json()["error"]]


def claims(token: dict) -> dict:
    return jwt.decode(token["access_token"], options={"verify_signature": False})


def main() -> None:
    place, audience = Place(sys.argv[1:5]), sys.argv[5]
    wish = {"grant_type": "client_credentials", "resource": audience, "scope": "read", "task_purpose": "a report", "task_delegable": audience}
    planner, reader, files = (Client(place, name) for name in ("planner", "reader", "files"))

    # First of all by somebody who has found the JWT-SVID, without a proof: it is not used up by that.
    without = planner.refused(proofs=[], **wish)
    root = planner.granted(**wish)
    renewed = planner.granted(grant_type="client_credentials", task_id=root["task"]["id"])
    part = {"grant_type": EXCHANGE, "subject_token": root["access_token"], "subject_token_type": ACCESS_TOKEN, "resource": audience, "scope": "read", "task_purpose": "one file"}
    # Many calls at once with a JWT-SVID that was never used before: all of them are its own workload's.
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        at_once = [answer.status_code for answer in pool.map(lambda _: reader.ask(**part), range(8))]
    child = reader.granted(**part)

    # What was begun by a proof gets no token for a certificate of the same process, nor the other way round.
    with WorkloadApiClient() as client:
        svid = next(svid for svid in client.fetch_x509_svids() if str(svid.spiffe_id) == planner.id)
    own = place.directory / "own"
    own.mkdir()
    (own / "svid.pem").write_bytes(b"".join(certificate.public_bytes(Encoding.PEM) for certificate in svid.cert_chain))
    (own / "key.pem").write_bytes(svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    own_session = place.workload("own", planner.id)
    by_certificate = own_session.fetch_token(place.endpoint("token"), **wish)
    renew = lambda token: {"grant_type": "client_credentials", "task_id": token["task"]["id"]}
    other_way = requests.post(place.endpoint("token"), data=renew(root), cert=own_session.cert, verify=place.anchors, timeout=20)

    once, stranger = planner.key.proof(planner.endpoint), Key()
    planner.granted(proofs=[once], grant_type="client_credentials", task_id=root["task"]["id"])
    elsewhere = planner.svid("https://elsewhere.example.org/")
    header, payload, signature = planner.assertion.split(".")
    forged = f"{header}.{payload[:-4]}AAAA.{signature}"
    # A proof that says for which token it is, where none is shown; an old one; one for the other listener.
    proofs = {"of_a_token": {"ath": "x"}, "old": {"iat": int(time.time()) - 120}, "elsewhere": {"htu": place.endpoint("token")}, "another_method": {"htm": "GET"}}
    files_session = place.workload("files")
    introspect = lambda token: files_session.introspect_token(place.endpoint("introspection"), token=token["access_token"]).json()
    url = f"{place.url}:8444/task/token"
    report = {
        "root": {name: root[name] for name in ("token_type", "scope", "task")},
        "root_claims": claims(root),
        "child_claims": claims(child),
        "bound": [claims(token)["cnf"] for token in (root, renewed, child)] == [{"jkt": client.key.thumbprint()} for client in (planner, planner, reader)],
        "introspected": [introspect(token) for token in (root, child)],
        "metadata": {name: place.metadata[name] for name in ("token_endpoint", "token_endpoint_auth_methods_supported", "dpop_signing_alg_values_supported")},
        "refused": {
            "without_proof": without,
            "proof_used": planner.refused(proofs=[once], **wish),
            "another_key": planner.refused(proofs=[stranger.proof(planner.endpoint)], **wish),
            "svid_for_another": planner.refused(assertion=elsewhere, **wish),
            "task_token": planner.refused(assertion=root["access_token"], **wish),
            "forged": planner.refused(assertion=forged, **wish),
            "no_assertion_type": planner.refused(client_assertion_type="urn:ietf:params:oauth:client-assertion-type:jwt-bearer", **wish),
            "another_client_id": planner.refused(client_id=reader.id, **wish),
            "another_task": reader.refused(grant_type="client_credentials", task_id=root["task"]["id"]),
            "shared_identity": files.refused(**wish),
            "by_certificate": [other_way.status_code, other_way.json()["error"]],
            "of_certificate": planner.refused(**renew(by_certificate)),
        }
        | {name: planner.refused(proofs=[planner.key.proof(planner.endpoint, **more)], **wish) for name, more in proofs.items()},
        "at_once": at_once,
        "head": requests.head(f"{place.url}:8444/.well-known/oauth-authorization-server/task", verify=place.anchors, timeout=20).status_code,
        "get": requests.get(url, verify=place.anchors, timeout=20).status_code,
        "large": requests.post(url, data={"x": "y" * 100_000}, verify=place.anchors, timeout=20).status_code,
        # What wants a certificate is not here.
        "revoke": requests.post(f"{place.url}:8444/task/revoke", data={"token": root["access_token"]}, verify=place.anchors, timeout=20).status_code,
    }
    print(json.dumps(report))


main()
