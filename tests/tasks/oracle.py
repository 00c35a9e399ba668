"""A second opinion on the delegation rules of docs/tasks.md.

It exists to disagree with the product's own code where that code is wrong. So it is written from the
page alone, says each rule once, and prefers being readable to being fast.

    judge(pair) -> {"verdict": "allowed"}
                 | {"verdict": "refused", "code": the first rule that fails}
                 | {"verdict": "invalid"}          one of the two grants is malformed

`judge` takes parsed JSON, in which a member that was written twice is already lost. Use `judge_text` for
the text of a pair: it sees that too.
"""

import ipaddress
import json
import re
import sys
from typing import NamedTuple, Optional


class Malformed(Exception):
    """A grant does not have the form of docs/tasks.md."""


def need(condition, why):
    if not condition:
        raise Malformed(why)


# --- Forms ---------------------------------------------------------------------------------------

LARGEST_INTEGER = 2**53 - 1

# re.fullmatch and explicit classes everywhere: "$" would let a line end through, and \w and \d take
# letters and digits of all scripts.
AUDIENCE = re.compile(r"(https|spiffe)://[!-~]*")
NOT_IN_AUDIENCE = "#\"'\\"
SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,128}")
TOOL = re.compile(r"[A-Za-z0-9._/-]{1,128}")
ARGUMENT = re.compile(r"[A-Za-z0-9_-]{1,64}")
PREFIX_LENGTH = re.compile(r"0|[1-9][0-9]{0,2}")


def object_of(x, allowed, needed=()):
    need(type(x) is dict, "not an object")
    for member in x:
        need(member in allowed, f"unknown member {member!r}")
    for member in needed:
        need(member in x, f"no {member}")
    return x


def text_of(x, least, most):
    """A text whose length is counted in bytes of UTF-8."""
    need(type(x) is str, "not a text")
    try:
        length = len(x.encode("utf-8"))
    except UnicodeEncodeError:  # half of a surrogate pair: no text at all
        raise Malformed("not Unicode") from None
    need(least <= length <= most, "length of a text")
    return x


def set_of(x, most, element):
    """A list of different elements, as a set: its order says nothing."""
    need(type(x) is list, "not a list")
    need(len(x) <= most, "too many elements")
    elements = [element(e) for e in x]
    need(len(set(elements)) == len(elements), "an element twice")
    return frozenset(elements)


def audience_of(x):
    need(type(x) is str and len(x) <= 512 and AUDIENCE.fullmatch(x), "audience")
    need(not any(c in NOT_IN_AUDIENCE for c in x), "audience")
    return x


def scope_token_of(x):
    need(type(x) is str and SCOPE_TOKEN.fullmatch(x), "scope token")
    return x


class Value(NamedTuple):
    """The kind is part of a value, because for Python alone True == 1."""

    kind: str
    plain: object


def integer_of(x):
    need(type(x) is int, "not an integer")  # type(True) is bool, so this refuses it
    need(-LARGEST_INTEGER <= x <= LARGEST_INTEGER, "integer too large")
    return x


def value_of(x):
    if type(x) is bool:
        return Value("boolean", x)
    if type(x) is int:
        return Value("integer", integer_of(x))
    return Value("text", text_of(x, 0, 512))


# --- Constraints ---------------------------------------------------------------------------------
#
# Each knows which values it admits. Which constraint is within which is said once, in `within`.


class Listed(NamedTuple):
    """`exact` and `one_of`: the same thing with one value and with any number of them.

    How it was written is kept only because two details that differ in it are not the same element twice.
    """

    written: str
    values: frozenset

    def admits(self, value):
        return value in self.values


class Range(NamedTuple):
    min: Optional[int]  # None: open
    max: Optional[int]

    def admits(self, value):
        return (
            value.kind == "integer"
            and (self.min is None or self.min <= value.plain)
            and (self.max is None or value.plain <= self.max)
        )


class Prefix(NamedTuple):
    start: bytes

    def admits(self, value):
        return value.kind == "text" and value.plain.encode("utf-8").startswith(self.start)


class Subpath(NamedTuple):
    segments: tuple  # of "/" there are none

    def admits(self, value):
        if value.kind != "text":
            return False
        path = segments_of(value.plain)
        return path is not None and path[: len(self.segments)] == self.segments


class Cidr(NamedTuple):
    network: object  # an IPv4Network or an IPv6Network

    def admits(self, value):
        if value.kind != "text":
            return False
        address = address_of(value.plain)
        return address is not None and address.version == self.network.version and address in self.network


MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


def segments_of(text):
    """The segments of a path in the form of docs/tasks.md, or None where it has another form."""
    if text == "/":
        return ()
    if not text.startswith("/") or "\0" in text:
        return None
    # An end in "/" and "//" both show here as an empty segment.
    segments = tuple(text[1:].split("/"))
    return None if any(s in ("", ".", "..") for s in segments) else segments


def canonical_address(text):
    """The address that this text is the one canonical spelling of, or None."""
    if "%" in text:  # a zone is no part of an address
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return address if str(address) == text else None


def address_of(text):
    """The address that is a value of a `cidr`, or None."""
    address = canonical_address(text)
    if address is not None and address.version == 6 and address in MAPPED:
        return None
    return address


def network_of(text):
    address, slash, length = text.partition("/")
    need(slash and PREFIX_LENGTH.fullmatch(length), "length of a network")
    parsed = canonical_address(address)
    need(parsed is not None, "address of a network")
    try:
        network = ipaddress.ip_network((parsed, int(length)), strict=True)
    except ValueError:
        raise Malformed("host bits, or too long") from None
    need(network.version == 4 or not network.subnet_of(MAPPED), "IPv4-mapped network")
    return network


def constraint_of(x):
    need(type(x) is dict and len(x) == 1, "exactly one member")
    ((kind, body),) = x.items()
    if kind == "exact":
        return Listed(kind, frozenset([value_of(body)]))
    if kind == "one_of":
        return Listed(kind, set_of(body, 64, value_of))
    if kind == "range":
        object_of(body, ("min", "max"))
        need(body, "neither min nor max")
        low = integer_of(body["min"]) if "min" in body else None
        high = integer_of(body["max"]) if "max" in body else None
        need(low is None or high is None or low <= high, "min above max")
        return Range(low, high)
    if kind == "prefix":
        return Prefix(text_of(body, 1, 512).encode("utf-8"))
    if kind == "subpath":
        segments = segments_of(text_of(body, 1, 512))
        need(segments is not None, "not a path")
        return Subpath(segments)
    if kind == "cidr":
        return Cidr(network_of(text_of(body, 1, 512)))
    raise Malformed(f"unknown constraint {kind!r}")


def within(child, parent):
    """Whether the child's constraint is within the parent's, and that can be seen."""
    if type(child) is Listed:
        return all(parent.admits(value) for value in child.values)
    if type(child) is not type(parent):
        return False
    if type(child) is Range:
        low = parent.min is None or (child.min is not None and child.min >= parent.min)
        high = parent.max is None or (child.max is not None and child.max <= parent.max)
        return low and high
    if type(child) is Prefix:
        return child.start.startswith(parent.start)
    if type(child) is Subpath:
        return child.segments[: len(parent.segments)] == parent.segments
    # Cidr. Networks of two families cannot be compared at all.
    return child.network.version == parent.network.version and child.network.subnet_of(parent.network)


# --- Grants --------------------------------------------------------------------------------------

LISTS = ("locations", "actions", "datatypes")


class Detail(NamedTuple):
    type: str
    tool: Optional[str]
    locations: Optional[frozenset]  # None: not limited. Empty: none at all
    actions: Optional[frozenset]
    datatypes: Optional[frozenset]
    identifier: Optional[str]
    constraints: frozenset  # of (argument, constraint)


class Grant(NamedTuple):
    audience: str
    scope: frozenset
    details: frozenset
    delegable: frozenset


def detail_of(x):
    need(type(x) is dict, "not an object")
    if x.get("type") == "mcp_tool":
        object_of(x, ("type", "tool", *LISTS, "identifier", "constraints"), needed=("tool",))
        need(type(x["tool"]) is str and TOOL.fullmatch(x["tool"]), "tool")
    elif x.get("type") == "resource":
        object_of(x, ("type", *LISTS, "identifier"))
    else:
        raise Malformed("unknown type")

    lists = [set_of(x[name], 32, lambda e: text_of(e, 1, 512)) if name in x else None for name in LISTS]
    identifier = text_of(x["identifier"], 1, 512) if "identifier" in x else None

    constraints = x.get("constraints", {})
    need(type(constraints) is dict and len(constraints) <= 32, "constraints")
    for name in constraints:
        need(ARGUMENT.fullmatch(name), "name of an argument")
    parsed = frozenset((name, constraint_of(c)) for name, c in constraints.items())
    return Detail(x["type"], x.get("tool"), *lists, identifier, parsed)


def grant_of(x):
    object_of(x, ("audience", "scope", "authorization_details", "delegable"), needed=("audience",))
    return Grant(
        audience_of(x["audience"]),
        set_of(x.get("scope", []), 64, scope_token_of),
        set_of(x.get("authorization_details", []), 32, detail_of),
        set_of(x.get("delegable", []), 64, audience_of),
    )


# --- Rules ---------------------------------------------------------------------------------------


def subsumed(child, parent):
    """Whether one detail of the child is subsumed by this one detail of the parent."""
    if child.type != parent.type or child.tool != parent.tool:
        return False
    for name in LISTS:
        mine, theirs = getattr(child, name), getattr(parent, name)
        if theirs is not None and (mine is None or not mine <= theirs):
            return False
    if parent.identifier is not None and child.identifier != parent.identifier:
        return False
    mine = dict(child.constraints)
    return all(name in mine and within(mine[name], limit) for name, limit in parent.constraints)


def rules(parent, child, now, p, c):
    """(code, whether it holds), in the documented order. `p` and `c` are the two parsed grants."""
    yield "deadline_exceeds_parent", child["deadline"] <= parent["deadline"]
    yield "parent_not_open", parent["state"] == "open" and now < parent["deadline"]
    yield "too_deep", parent["hop"] + 1 <= parent["max_hops"]
    yield "hops_exceed_parent", child["max_hops"] is None or child["max_hops"] <= parent["max_hops"]
    yield "scope_exceeds_parent", c.scope <= p.scope
    yield "detail_exceeds_parent", all(any(subsumed(d, e) for e in p.details) for d in c.details)
    yield "audience_not_delegable", {c.audience} | c.delegable <= p.delegable
    caller = child["caller"]
    yield "actor_not_allowed", parent["may_act"] is None or caller["spiffe_id"] in parent["may_act"]
    seen = {(actor["spiffe_id"], actor["instance"]) for actor in parent["chain"]}
    yield "actor_repeated", (caller["spiffe_id"], caller["instance"]) not in seen


def judge(pair):
    parent, child = pair["parent"], pair["child"]
    try:
        p, c = grant_of(parent["grant"]), grant_of(child["grant"])
    except Malformed:
        return {"verdict": "invalid"}
    for code, holds in rules(parent, child, pair["now"], p, c):
        if not holds:
            return {"verdict": "refused", "code": code}
    return {"verdict": "allowed"}


def _members_once(members):
    once = dict(members)
    need(len(once) == len(members), "a member twice")
    return once


def judge_text(text):
    """`judge` for a pair as text; a member written twice makes it invalid."""
    try:
        pair = json.loads(text, object_pairs_hook=_members_once)
    except Malformed:
        return {"verdict": "invalid"}
    return judge(pair)


if __name__ == "__main__":
    # Pairs as JSON lines in, verdicts as JSON lines out. A pair that expects something else ends in 1.
    differ = 0
    for number, line in enumerate(sys.stdin, 1):
        verdict = judge_text(line)
        print(json.dumps(verdict))
        expect = json.loads(line).get("expect", verdict)
        if expect != verdict:
            differ += 1
            print(f"line {number}: expected {expect}, judged {verdict}", file=sys.stderr)
    sys.exit(1 if differ else 0)
