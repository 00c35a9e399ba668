"""A workload that knows only what the standards say of WIT-SVIDs: gRPC without generated code, `cryptography` and PyJWT.

usage: wits.py hold URL | judge URL
hold: fetches its WIT-SVID and the bundles, verifies one by the other, and proves a request to URL.
judge: reads {"headers": {NAME: VALUE}, "jwks": {..}} and says who makes this request to URL.
Prints one JSON object; exits 0 when the Workload API behaved as the SPIFFE standards say.
"""

import base64
import hashlib
import json
import os
import secrets
import sys
import time

import grpc
import jwt

METADATA = (("workload.spiffe.io", "true"),)


def first(call: str) -> bytes:
    """The first message of a stream, as it is on the wire."""
    with grpc.insecure_channel(os.environ["SPIFFE_ENDPOINT_SOCKET"]) as channel:
        stream = channel.unary_stream(f"/SpiffeWorkloadAPI/{call}", lambda message: message, lambda message: message)
        return next(stream(b"", metadata=METADATA, timeout=20))


def varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


def fields(data: bytes) -> list[tuple[int, bytes]]:
    """Number and content of each field; all of them have a length."""
    found, at = [], 0
    while at < len(data):
        tag, at = varint(data, at)
        assert tag & 7 == 2, f"wire type {tag & 7}"
        length, at = varint(data, at)
        found.append((tag >> 3, data[at : at + length]))
        at += length
    return found


def text_fields(data: bytes) -> dict[int, str]:
    return {number: content.decode("utf-8") for number, content in fields(data)}


def svid() -> dict[int, str]:
    (number, content), *_ = fields(first("FetchWITSVID"))
    assert number == 1
    return text_fields(content)


def bundles() -> dict[str, str]:
    entries = []
    for number, content in fields(first("FetchWITBundles")):
        assert number == 1
        entry = text_fields(content)
        entries.append((entry[1], entry[2]))
    return dict(entries)


def verified(token: str, jwks: dict) -> dict:
    """The claims of a token that a `wit-svid` key of the bundle signed."""
    header = jwt.get_unverified_header(token)
    assert header["typ"] == "wit+jwt", header
    (key,) = [key for key in jwks["keys"] if key.get("use") == "wit-svid" and key["kid"] == header["kid"]]
    public = jwt.PyJWK.from_dict(key, algorithm="ES256").key
    claims = jwt.decode(token, public, algorithms=["ES256"], options={"require": ["sub", "exp", "cnf"]})
    assert "aud" not in claims and "iss" not in claims, claims
    assert "d" not in claims["cnf"]["jwk"], "the private key is in the token"
    return claims


def token_hash(token: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(token.encode("ascii")).digest()).rstrip(b"=").decode()


def hold(url: str) -> dict:
    own, trust = svid(), bundles()
    domain = own[1].split("/")[2]
    assert list(trust) == [f"spiffe://{domain}"], list(trust)
    jwks = json.loads(trust[f"spiffe://{domain}"])
    assert all(key["use"] == "wit-svid" and key["kid"] for key in jwks["keys"]), jwks
    claims = verified(own[2], jwks)
    assert claims["sub"] == own[1], claims
    private = jwt.PyJWK.from_dict(json.loads(own[3])).key
    bound = jwt.PyJWK.from_dict(claims["cnf"]["jwk"]).key
    assert private.public_key().public_numbers() == bound.public_numbers(), "not the key of cnf"
    proof = {"aud": url, "exp": int(time.time()) + 60, "jti": secrets.token_urlsafe(16), "wth": token_hash(own[2])}
    proof = jwt.encode(proof, private, algorithm="ES256", headers={"typ": "wpt+jwt"})
    headers = {"Workload-Identity-Token": own[2], "Authorization": f"WPT {proof}"}
    return {"spiffe_id": own[1], "hint": own.get(4, ""), "headers": headers, "jwks": jwks}


def judge(url: str, request: dict) -> dict:
    token, authorization = request["headers"]["Workload-Identity-Token"], request["headers"]["Authorization"]
    scheme, proof = authorization.split(" ")
    assert scheme == "WPT", scheme
    claims = verified(token, request["jwks"])
    bound = claims["cnf"]["jwk"]
    assert jwt.get_unverified_header(proof)["typ"] == "wpt+jwt"
    try:
        said = jwt.decode(
            proof,
            jwt.PyJWK.from_dict(bound).key,
            algorithms=[bound["alg"]],
            audience=url,
            options={"require": ["aud", "exp", "jti"]},
        )
    except jwt.PyJWTError as error:
        return {"refused": str(error)}
    assert said["wth"] == token_hash(token), "for another token"
    assert len(said["jti"]) >= 22 and said["exp"] - time.time() <= 120, said
    return {"spiffe_id": claims["sub"]}


def main() -> None:
    url = sys.argv[2]
    print(json.dumps(hold(url) if sys.argv[1] == "hold" else judge(url, json.load(sys.stdin))))


main()
