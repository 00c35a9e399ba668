"""Verifies a task token and a JWT-SVID as programs do that know OAuth and OpenID and nothing of Mayfly: PyJWT and joserfc, by published keys.

usage: tasks.py HOST:PORT URL BUNDLE.pem AUDIENCE < {"task": TOKEN, "svid": TOKEN}
HOST:PORT is where the HTTPS listener is, URL how the issuer calls itself. Prints one JSON object.
"""

import http.client
import json
import ssl
import sys

import jwt
from joserfc import jwt as jose
from joserfc.errors import BadSignatureError
from joserfc.jwk import KeySet


def fetch(address: str, anchors: str, path: str) -> dict:
    """A document from the listener, whose certificate names no host: the identity of the issuer is checked by its anchors."""
    context = ssl.create_default_context(cafile=anchors)
    context.check_hostname = False
    host, port = address.rsplit(":", 1)
    connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=20)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 200, f"{path}: {answer.status}"
    assert answer.headers["content-type"] == "application/json"
    return json.loads(answer.read())


def path_of(url: str, base: str) -> str:
    assert url.startswith(base + "/"), url
    return url.removeprefix(base)


def by_pyjwt(token: str, keys: dict, issuer: str | None, audience: str) -> dict:
    key_id = jwt.get_unverified_header(token)["kid"]
    key = next((key for key in jwt.PyJWKSet.from_dict(keys).keys if key.key_id == key_id), None)
    if key is None:
        raise jwt.InvalidTokenError("no such key")
    required = ["exp", "iat", "aud", "sub"]
    return jwt.decode(token, key.key, algorithms=["ES256"], issuer=issuer, audience=audience, options={"require": required})


def by_joserfc(token: str, keys: dict) -> dict:
    return jose.decode(token, KeySet.import_key_set(keys), algorithms=["ES256"]).claims


def main() -> None:
    address, url, anchors, audience = sys.argv[1:]
    tokens = json.load(sys.stdin)
    task = fetch(address, anchors, "/.well-known/oauth-authorization-server/task")
    svid = fetch(address, anchors, "/svid/.well-known/openid-configuration")
    assert (task["issuer"], svid["issuer"]) == (f"{url}/task", f"{url}/svid")
    task_keys = fetch(address, anchors, path_of(task["jwks_uri"], url))
    svid_keys = fetch(address, anchors, path_of(svid["jwks_uri"], url))
    assert not {key["kid"] for key in task_keys["keys"]} & {key["kid"] for key in svid_keys["keys"]}, "a key in both sets"

    claims = by_pyjwt(tokens["task"], task_keys, task["issuer"], audience)
    assert claims == by_joserfc(tokens["task"], task_keys)
    assert jwt.get_unverified_header(tokens["task"])["typ"] == "at+jwt"
    identity = by_pyjwt(tokens["svid"], svid_keys, svid["issuer"], audience)
    assert identity == by_joserfc(tokens["svid"], svid_keys)

    refused = []
    for token, keys in ((tokens["svid"], task_keys), (tokens["task"], svid_keys)):
        try:
            by_pyjwt(token, keys, None, audience)
        except jwt.InvalidTokenError as error:
            refused.append(str(error))
    head, body, signature = tokens["task"].split(".")
    try:
        by_joserfc(f"{head}.{body[:-2]}AA.{signature}", task_keys)
    except (BadSignatureError, ValueError):
        refused.append("changed")
    print(json.dumps({"task": claims, "svid": identity, "refused": refused}))


main()
