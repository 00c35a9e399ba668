"""A workload that knows only py-spiffe, and verifies what it gets with `cryptography` and PyJWT.

usage: workload.py denied | full BUNDLE_DOCUMENT
Prints one JSON object; exits 0 when the Workload API behaved as the SPIFFE standards say.
"""

import json
import sys
import threading
from pathlib import Path

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import PolicyBuilder, Store
from spiffe import WorkloadApiClient
from spiffe.errors import PySpiffeError

AUDIENCE = "interop"


def denied(client: WorkloadApiClient) -> dict:
    try:
        client.fetch_x509_svid(timeout=20)
    except PySpiffeError as error:
        return {"denied": "no identity issued" in str(error), "error": str(error)}
    return {"denied": False}


def rotations(client: WorkloadApiClient) -> list[int]:
    """The serial numbers of the first SVID and of three rotations."""
    serials: list[int] = []
    done = threading.Event()
    errors: list[str] = []

    def on_success(context) -> None:
        serial = context.default_svid.leaf.serial_number
        if serial not in serials:
            serials.append(serial)
        if len(serials) >= 4:
            done.set()

    def on_error(error: Exception) -> None:
        errors.append(str(error))
        done.set()

    handle = client.stream_x509_contexts(on_success, on_error)
    finished = done.wait(90)
    handle.cancel()
    if errors or not finished:
        raise SystemExit(f"watching failed: {errors or 'no three rotations within 90 s'}; saw {serials}")
    return serials


def verify_chain(svid, bundle) -> None:
    verifier = PolicyBuilder().store(Store(list(bundle.x509_authorities))).build_client_verifier()
    verified = verifier.verify(svid.leaf, svid.cert_chain[1:])
    names = verified.subjects or []
    uris = [name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)]
    assert uris == [str(svid.spiffe_id)], uris


def verify_token(token: str, keys: dict) -> None:
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=["ES256"], audience=AUDIENCE)
    assert claims["aud"] == [AUDIENCE], claims
    try:
        jwt.decode(token, key, algorithms=["ES256"], audience="another")
    except jwt.InvalidAudienceError:
        return
    raise SystemExit("PyJWT accepted another audience")


def keys_of_document(document: bytes) -> dict:
    keys = [key for key in json.loads(document)["keys"] if key["use"] == "jwt-svid"]
    return {key["kid"]: jwt.PyJWK.from_dict(key, algorithm="ES256").key for key in keys}


def full(client: WorkloadApiClient, document: bytes) -> dict:
    svid = client.fetch_x509_svid(timeout=20)
    bundles = client.fetch_x509_bundles(timeout=20)
    bundle = bundles.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
    verify_chain(svid, bundle)
    token = client.fetch_jwt_svid({AUDIENCE}, timeout=20)
    jwt_bundle = client.fetch_jwt_bundles(timeout=20).get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
    verify_token(token.token, jwt_bundle.jwt_authorities)
    verify_token(token.token, keys_of_document(document))
    validated = client.validate_jwt_svid(token.token, AUDIENCE, timeout=20)
    try:
        client.validate_jwt_svid(token.token, "another", timeout=20)
        wrong_audience_refused = False
    except PySpiffeError:
        wrong_audience_refused = True
    pem = lambda certificates: "".join(c.public_bytes(Encoding.PEM).decode() for c in certificates)
    return {
        "spiffe_id": str(svid.spiffe_id),
        "chain": pem(svid.cert_chain),
        "bundle": pem(bundle.x509_authorities),
        "jwt_spiffe_id": str(validated.spiffe_id),
        "wrong_audience_refused": wrong_audience_refused,
        "serials": [f"{serial:x}" for serial in rotations(client)],
    }


def main() -> None:
    with WorkloadApiClient() as client:
        if sys.argv[1] == "denied":
            print(json.dumps(denied(client)))
        else:
            print(json.dumps(full(client, Path(sys.argv[2]).read_bytes())))


main()
