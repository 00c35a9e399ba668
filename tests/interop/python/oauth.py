"""OAuth clients that know nothing of Mayfly: Authlib obtains task tokens with an X.509-SVID as client certificate, hands them on,
has them introspected and revokes them, and a service makes transaction tokens of them; PyJWT verifies them, status lists and security
events by the published keys.

usage: oauth.py IP URL ANCHORS.pem SVIDS AUDIENCE (see workloads.py). Prints one JSON object.
"""

import base64
import json
import sys
import time
import zlib
from urllib.parse import urlsplit

import jwt
import requests
from authlib.integrations.base_client import OAuthError
from workloads import Place, Workload

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
TXN_TOKEN = "urn:ietf:params:oauth:token-type:txn_token"


def refused(action) -> str:
    try:
        answer = action()
    except OAuthError as error:
        return error.error
    raise SystemExit(f"this was to be refused: {answer}")


class Keys:
    """Published keys."""

    def __init__(self, url: str, jwks_uri: str, anchors: str) -> None:
        jwks = requests.get(f"{url}:8444{urlsplit(jwks_uri).path}", verify=anchors, timeout=20).json()
        self.keys = {key.key_id: key.key for key in jwt.PyJWKSet.from_dict(jwks).keys}

    def claims(self, token: str, typ: str, **more) -> dict:
        header = jwt.get_unverified_header(token)
        assert header["typ"] == typ, header
        return jwt.decode(token, self.keys[header["kid"]], algorithms=["ES256"], **more)


def listed(claims: dict, url: str, keys: Keys, anchors: str) -> int:
    """What the status list says of a token: 0 valid, 1 invalid, 2 suspended."""
    entry = claims["status"]["status_list"]
    answer = requests.get(entry["uri"].replace(url, f"{url}:8444"), verify=anchors, timeout=20)
    assert answer.headers["content-type"] == "application/statuslist+jwt", answer.headers
    found = keys.claims(answer.text, "statuslist+jwt", issuer=f"{url}/status", options={"require": ["exp", "iat", "sub"]})
    assert found["sub"] == entry["uri"] and found["ttl"] <= 10 and found["status_list"]["bits"] == 2, found
    text = found["status_list"]["lst"]
    bits = zlib.decompress(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return bits[entry["idx"] // 4] >> entry["idx"] % 4 * 2 & 3


def told(stream, count: int, keys: Keys, url: str, audience: str) -> dict:
    """The states of the next tasks that the feed names."""
    states, kind = {}, None
    for line in stream:
        name, _, value = line.decode().partition(": ")
        if name == "event":
            kind = value
        elif name == "data" and kind == "task":
            event = keys.claims(value, "secevent+jwt", issuer=f"{url}/events", audience=audience)
            states[event["sub_id"]["id"]] = event["events"]["urn:mayfly:task:changed"]["state"]
            if len(states) == count:
                return states
    raise SystemExit("the feed ended")


def exchanged(who: Workload, endpoint: str, trust_domain: str, shown: str, **more) -> dict:
    """A transaction token for a token that somebody was shown."""
    wish = {"requested_token_type": TXN_TOKEN, "audience": trust_domain, "scope": "read", "subject_token_type": ACCESS_TOKEN, "subject_token": shown}
    return who.fetch_token(endpoint, grant_type=EXCHANGE, **(wish | more))


def transactions(place: Place, files: Workload, reader: Workload, planner: Workload, child: str, found: dict) -> dict:
    """What a service passes on of the child's token, and what becomes of everything else that is asked for."""
    endpoint, trust_domain = place.endpoint("token"), urlsplit(files.client_id).netloc
    keys = Keys(place.url, found["transaction_token_jwks_uri"], place.anchors)
    context = {"request_context": json.dumps({"req_ip": "69.151.72.123"}), "request_details": json.dumps({"page": 7})}
    answer = exchanged(files, endpoint, trust_domain, child, **context)
    claims = keys.claims(answer["access_token"], "txntoken+jwt", issuer=f"{place.url}/txn", audience=trust_domain, options={"require": ["exp", "iat", "txn", "sub"]})
    of_child = jwt.decode(child, options={"verify_signature": False})
    assert claims["exp"] <= of_child["exp"] and claims["status"] == of_child["status"], claims
    own = exchanged(reader, endpoint, trust_domain, child)
    transaction = answer["access_token"]
    part = {"resource": of_child["aud"], "scope": "read", "task_purpose": "a part", "subject_token_type": ACCESS_TOKEN}

    def without(**more) -> str:
        return refused(lambda: exchanged(files, endpoint, trust_domain, child, **more))

    return {
        "answer": {name: answer[name] for name in ("token_type", "issued_token_type")},
        "claims": claims,
        "own_requester": jwt.decode(own["access_token"], options={"verify_signature": False})["req_wl"],
        "introspected": files.introspect_token(place.endpoint("introspection"), token=transaction).json(),
        "refused": {
            "wider": without(scope="read list"),
            "elsewhere": without(audience="elsewhere.example"),
            "no_object": without(request_context="[1]"),
            "much": without(request_details=json.dumps({"x": "y" * 3000})),
            "of_another": refused(lambda: exchanged(planner, endpoint, trust_domain, child)),
            "again": refused(lambda: exchanged(files, endpoint, trust_domain, transaction)),
            "as_access": refused(lambda: reader.fetch_token(endpoint, grant_type=EXCHANGE, subject_token=transaction, **part)),
        },
    }


def main() -> None:
    place, audience = Place(sys.argv[1:5]), sys.argv[5]
    url, anchors, found = place.url, place.anchors, place.metadata
    names = ("jwks_uri", "status_list_jwks_uri", "security_event_jwks_uri", "transaction_token_jwks_uri")
    task_keys, status_keys, event_keys, _ = sets = [Keys(url, found[name], anchors) for name in names]
    kids = [kid for keys in sets for kid in keys.keys]
    assert len(kids) == len(set(kids)), "a key for two uses"
    token, introspection, revocation = (place.endpoint(which) for which in ("token", "introspection", "revocation"))
    planner, reader, files = (place.workload(name) for name in ("planner", "reader", "files"))
    wish = {"resource": audience, "scope": "list read", "task_purpose": "a report", "task_delegable": audience}
    root = planner.fetch_token(token, grant_type="client_credentials", **wish)
    claims = task_keys.claims(root["access_token"], "at+jwt", issuer=found["issuer"], audience=audience)
    renewed = planner.fetch_token(token, grant_type="client_credentials", task_id=root["task"]["id"])

    part = {"resource": audience, "scope": "read", "task_purpose": "one file", "subject_token_type": ACCESS_TOKEN}
    child = reader.fetch_token(token, grant_type=EXCHANGE, subject_token=root["access_token"], **part)

    def introspected(who: Workload, which: dict) -> dict:
        return who.introspect_token(introspection, token=which["access_token"]).json()

    of_child = jwt.decode(child["access_token"], options={"verify_signature": False})
    events = found["task_events_endpoint"]
    feed = requests.get(events, params={"audience": audience}, verify=anchors, cert=files.cert, stream=True, timeout=20).iter_lines()
    before = [introspected(files, which) for which in (root, child)]
    report = {
        "root": {name: root[name] for name in ("token_type", "expires_in", "scope", "task")},
        "claims": claims,
        "renewed": renewed["task"]["id"],
        "child": child["task"],
        "introspected": before,
        "not_for_others": introspected(reader, child),
        "listed": listed(of_child, url, status_keys, anchors),
        "refused": {
            "wider": refused(lambda: reader.fetch_token(token, grant_type=EXCHANGE, subject_token=root["access_token"], **(part | {"scope": "read write"}))),
            "elsewhere": refused(lambda: planner.fetch_token(token, grant_type="client_credentials", **(wish | {"resource": "https://elsewhere.example.org/"}))),
            # The actor is who holds the certificate, whatever else is said.
            "actor_token": refused(lambda: reader.fetch_token(token, grant_type=EXCHANGE, subject_token=root["access_token"], actor_token=root["access_token"], actor_token_type=ACCESS_TOKEN, **part)),
            "another_client_id": refused(lambda: place.workload("reader", planner.client_id).fetch_token(token, grant_type="client_credentials", **wish)),
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

    feed_for_others = requests.get(events, params={"audience": audience}, verify=anchors, cert=reader.cert, timeout=20)
    report["refused"]["feed_for_others"] = feed_for_others.json()["reason"]

    report["transactions"] = transactions(place, files, reader, planner, child["access_token"], found)
    assert planner.revoke_token(revocation, token=root["access_token"]).status_code == 200
    begun = time.monotonic()
    report["told"] = told(feed, 2, event_keys, url, audience)
    while listed(of_child, url, status_keys, anchors) != 1:
        time.sleep(0.1)
    report["listed_after_s"] = time.monotonic() - begun
    report["after"] = [introspected(files, which) for which in (root, child)]
    report["refused"]["closed"] = refused(lambda: reader.fetch_token(token, grant_type=EXCHANGE, subject_token=root["access_token"], **part))
    report["refused"]["closed_transaction"] = refused(lambda: exchanged(files, token, urlsplit(files.client_id).netloc, child["access_token"]))
    assert planner.revoke_token(revocation, token="no token at all").status_code == 200
    print(json.dumps(report))


main()
