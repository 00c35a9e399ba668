"""Makes pairs of a parent task and a child that asks for a delegation, each with its verdict.

    python3 pairs.py --count 5000 --seed 1 [--summary] [--check] > pairs.jsonl

Every pair starts out legitimate: a random parent, and a child that was made from it by narrowing only.
From there a pair may be taken to an edge. An edge is a class of its own (`EDGES`, `FORMS`) and has two
sides that lie one step apart: the last pair that is still legal and the first that is not.

    "distance": "legitimate"        narrowed, or on the legal side of an edge
                "boundary:<edge>"   on the other side of that edge, and legitimate in all else
                "far"               several edges crossed at once, or put together at random

The verdict that belongs to a pair is known from how it was made; only for the random part of "far" it is
not. The oracle judges each pair on its own, and a difference between the two ends the run. To keep that
worth something nothing of the oracle is used here but `judge`: addresses, for one, are made from
integers by other code than the one that reads them there.

The same seed gives the same lines. That is why nothing here depends on the order of a Python set.
"""

import argparse
import json
import random
import sys
from collections import Counter

from oracle import judge

RULES = [
    "deadline_exceeds_parent",
    "parent_not_open",
    "too_deep",
    "hops_exceed_parent",
    "scope_exceeds_parent",
    "detail_exceeds_parent",
    "audience_not_delegable",
    "actor_not_allowed",
    "actor_repeated",
]
LISTS = ["locations", "actions", "datatypes"]
LARGEST = 2**53 - 1

# --- Words ---------------------------------------------------------------------------------------

HOSTS = ["files", "mail", "calendar", "search", "billing", "tickets", "wiki", "build"]
AUDIENCES = (
    [f"https://{h}.example.org/mcp" for h in HOSTS]
    + [f"https://{h}.example.org/" for h in HOSTS]
    + [f"spiffe://example.org/service/{h}" for h in HOSTS]
)
SCOPES = [f"{h}:{verb}" for h in HOSTS for verb in ("read", "list", "write", "delete")] + ["files", "#all", "a", "A"]
AGENTS = [
    f"spiffe://{domain}/agent/{name}"
    for domain in ("example.org", "prod.example.com")
    for name in ("planner", "reader", "writer", "mailer", "billing/eu", "billing/us", "r2")
]
TOOLS = [
    "read_file", "write_file", "list_files", "send_mail", "search", "fs/read", "fs/write", "db.query",
    "db.insert", "http-get", "http-post", "run", "Run", "tickets/create", "tickets/close", "a", "x-1",
]  # fmt: skip
WORDS = {
    "locations": AUDIENCES + ["/srv/reports", "eu-central", "Zürich", "東京", "a b", "s3://bucket/key"],
    "actions": ["call", "list", "read", "write", "delete", "Call", "プレビュー", "dry run"],
    "datatypes": ["invoice", "contact", "message", "log", "café", "picture/png", "1", "true"],
}
IDENTIFIERS = ["account-1", "account-2", "account-10", "kunde/7", "Kundennummer 9", "東京-1"]
ARGUMENTS = ["path", "limit", "query", "host", "to", "subject", "dry_run", "page", "user-id", "format", "0", "Path"]
TEXTS = [
    "red", "green", "blue", "Red", "alpha beta", "2026-01", "report.pdf", "größe", "東京都", "", "1", "true",
    "\U0001f600 ok", 'a"b\\c', "tab\there", "10.1.0.1", "/srv/reports", "null", "nul\0in", "..",
]  # fmt: skip
STARTS = ["report-", "re", "größe", "東京", "/srv/", "10.1.", "a", "X", "1", "user:", "\U0001f600", "-"]
SEGMENTS = ["srv", "reports", "data", "2026", "q1", "home", "etc", "a", "b.txt", "...", "..x", ".hidden", "größe", "a b"]

# Names that only decoys use (see `decoy`), so that no child can happen to carry them.
TICKET = "ticket"
NOBODY = "decoy-identifier"


def hexes(r, digits):
    return f"{r.getrandbits(4 * digits):0{digits}x}"


def some(r, pool, least, most):
    return r.sample(pool, r.randint(least, min(most, len(pool))))


def subset(r, items):
    """A random part of a list, in a new order; often all of it or nothing."""
    roll = r.random()
    if roll < 0.25:
        size = len(items)
    elif roll < 0.33:
        size = 0
    else:
        size = r.randint(0, len(items))
    return r.sample(items, size)


# --- Addresses -----------------------------------------------------------------------------------


def v4(number):
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))


def v6(number):
    """RFC 5952: the longest run of two or more zero groups is written as "::", the first of equals."""
    groups = [number >> shift & 0xFFFF for shift in range(112, -1, -16)]
    best, start = 0, 0
    here = 0
    for i, group in enumerate(groups):
        here = here + 1 if group == 0 else 0
        if here > best:
            best, start = here, i - here + 1
    texts = [f"{g:x}" for g in groups]
    if best < 2:
        return ":".join(texts)
    return ":".join(texts[:start]) + "::" + ":".join(texts[start + best :])


class Net:
    """A network as numbers."""

    def __init__(self, bits, number, length):
        self.bits, self.length = bits, length
        self.size = 1 << (bits - length)
        self.first = number & ~(self.size - 1)
        self.last = self.first + self.size - 1

    def name(self, number):
        return v4(number) if self.bits == 32 else v6(number)

    def __str__(self):
        return f"{self.name(self.first)}/{self.length}"

    def address(self, r):
        return self.name(r.choice((self.first, self.last, r.randint(self.first, self.last))))

    def inner(self, r):
        length = min(self.bits, self.length + r.choice((0, 1, 1, 2, 8, 16, 64)))
        return Net(self.bits, r.randint(self.first, self.last), length)


def some_net(r, least=8, most=None):
    """Away from ::/16, where the mapped addresses and other special spellings live."""
    if r.random() < 0.6:
        return Net(32, r.choice((10 << 24, 172 << 24, 192 << 24)) | r.getrandbits(24), r.randint(least, most or 32))
    number = (0x20010DB8 << 96) | (r.getrandbits(96) if r.random() < 0.5 else r.getrandbits(16) << r.choice((0, 64, 80)))
    return Net(128, number, r.choice((32, 40, 48, 56, 63, 64, 65, 96, 127, most or 128)))


# --- Constraints that hold, and narrower ones ----------------------------------------------------


def some_path(r, least=1, most=3):
    return "".join("/" + r.choice(SEGMENTS) for _ in range(r.randint(least, most)))


def below(r, path):
    return ("" if path == "/" else path) + some_path(r, 1, 2)


def some_value(r):
    roll = r.random()
    if roll < 0.5:
        return r.choice(TEXTS)
    if roll < 0.85:
        return r.randint(-5, 100) if roll < 0.8 else r.choice((LARGEST, -LARGEST, 0, 1))
    return roll < 0.925


def kind(value):
    """Python takes True for 1; with its type beside it a value is equal to nothing else."""
    return (type(value).__name__, value)


def some_values(r, least, most):
    values = {}
    for _ in range(r.randint(least, most)):
        value = some_value(r)
        values.setdefault(kind(value), value)
    return list(values.values())


def other_value(r, taken):
    taken = {kind(v) for v in taken}
    while True:
        value = r.choice(
            (some_value(r), r.randint(101, 999), f"other {r.randint(0, 99)}")
        )
        if kind(value) not in taken:
            return value


def some_constraint(r):
    which = r.randrange(6)
    if which == 0:
        return {"exact": some_value(r)}
    if which == 1:
        return {"one_of": some_values(r, 0 if r.random() < 0.1 else 1, 6)}
    if which == 2:
        low = r.randint(-50, 50)
        return r.choice(({"range": {"min": low, "max": low + r.randint(0, 100)}}, {"range": {"min": low}}, {"range": {"max": low}}))
    if which == 3:
        return {"prefix": r.choice(STARTS)}
    if which == 4:
        return {"subpath": "/" if r.random() < 0.1 else some_path(r)}
    return {"cidr": str(some_net(r))}


def listed(r, value):
    """A few values made by `value`, as `exact` or as `one_of`."""
    if r.random() < 0.5:
        return {"exact": value()}
    values = {}
    for _ in range(r.randint(1, 3)):
        v = value()
        values.setdefault(kind(v), v)
    return {"one_of": list(values.values())}


def inside_range(r, low, high):
    bottom = low if low is not None else max(-LARGEST, (high if high is not None else 0) - 1000)
    top = high if high is not None else min(LARGEST, bottom + 2000)
    return r.choice((bottom, top, r.randint(bottom, top)))


def narrower_constraint(r, parent):
    roll = r.random()
    if roll < 0.25:
        return parent
    if roll < 0.29:
        return {"one_of": []}
    ((name, body),) = parent.items()
    if name == "exact":
        return {"one_of": [body]}
    if name == "one_of":
        if body and r.random() < 0.4:
            return {"exact": r.choice(body)}
        return {"one_of": subset(r, body)}
    if name == "range":
        low, high = body.get("min"), body.get("max")
        if r.random() < 0.4:
            return listed(r, lambda: inside_range(r, low, high))
        one, two = sorted((inside_range(r, low, high), inside_range(r, low, high)))
        child = {"min": one, "max": two}
        # A side that is open above may stay open.
        if low is None and r.random() < 0.3:
            del child["min"]
        elif high is None and r.random() < 0.3:
            del child["max"]
        return {"range": child}
    if name == "prefix":
        longer = lambda: body + r.choice(("", "x", " é", "/..", "1", "東", body))  # noqa: E731
        return listed(r, longer) if r.random() < 0.5 else {"prefix": longer()}
    if name == "subpath":
        deeper = lambda: body if r.random() < 0.2 else below(r, body)  # noqa: E731
        return listed(r, deeper) if r.random() < 0.5 else {"subpath": deeper()}
    net = read_net(body)
    return listed(r, lambda: net.address(r)) if r.random() < 0.5 else {"cidr": str(net.inner(r))}


def read_net(text):
    """Only for what `Net` has written itself."""
    address, length = text.split("/")
    if ":" not in address:
        number = 0
        for part in address.split("."):
            number = number << 8 | int(part)
        return Net(32, number, int(length))
    head, gap, tail = address.partition("::")
    head = [int(g, 16) for g in head.split(":") if g]
    tail = [int(g, 16) for g in tail.split(":") if g]
    number = 0
    for group in head + [0] * (8 - len(head) - len(tail)) + tail:
        number = number << 16 | group
    return Net(128, number, int(length))


# --- Details -------------------------------------------------------------------------------------


def shuffled(r, mapping):
    """The same members in another order, now and then."""
    if r.random() < 0.8:
        return mapping
    names = list(mapping)
    r.shuffle(names)
    return {name: mapping[name] for name in names}


def key(detail):
    """Equal for details that differ in nothing but order."""
    constraints = []
    for name, c in detail.get("constraints", {}).items():
        ((what, body),) = c.items()
        if what == "one_of":
            body = sorted(map(repr, map(kind, body)))
        elif what == "range":
            body = [body.get("min"), body.get("max")]
        else:
            body = kind(body)
        constraints.append((name, what, repr(body)))
    lists = [sorted(detail[name]) if name in detail else None for name in LISTS]
    return repr((detail["type"], detail.get("tool"), lists, detail.get("identifier"), sorted(constraints)))


def some_list(r, name):
    return some(r, WORDS[name], 0 if r.random() < 0.1 else 1, 4)


def some_detail(r, tool=None):
    """A detail of type `mcp_tool` where there is a tool, else of type `resource`."""
    detail = {"type": "mcp_tool", "tool": tool} if tool else {"type": "resource"}
    for name in LISTS:
        if r.random() < 0.5:
            detail[name] = some_list(r, name)
    if r.random() < 0.2:
        detail["identifier"] = r.choice(IDENTIFIERS)
    if tool and r.random() < 0.75:
        names = r.sample(ARGUMENTS, r.choice((0, 1, 1, 1, 2, 2, 3)))
        detail["constraints"] = {name: some_constraint(r) for name in names}
    return shuffled(r, detail)


def narrower_detail(r, parent):
    child = dict(parent)
    for name in LISTS:
        if name in parent:
            child[name] = subset(r, parent[name])
        elif r.random() < 0.25:
            child[name] = some_list(r, name)
    if "identifier" not in parent and r.random() < 0.15:
        child["identifier"] = r.choice(IDENTIFIERS)
    if parent["type"] == "mcp_tool":
        limits = parent.get("constraints", {})
        mine = {name: narrower_constraint(r, c) for name, c in limits.items()}
        if r.random() < 0.25:
            for name in r.sample(ARGUMENTS, r.randint(1, 2)):
                if name not in limits:
                    mine[name] = some_constraint(r)
        if mine or r.random() < 0.1:
            child["constraints"] = shuffled(r, mine)
        else:
            child.pop("constraints", None)
    return shuffled(r, child)


def put(r, grant, detail):
    """Adds a detail at a random place; an equal one is not put there twice. Says whether it is new."""
    details = grant.setdefault("authorization_details", [])
    new = key(detail)
    if any(key(d) == new for d in details):
        return False
    details.insert(r.randint(0, len(details)), detail)
    return True


# --- A legitimate pair ---------------------------------------------------------------------------


def legitimate(r):
    now = r.randint(1_790_000_000, 1_890_000_000)
    deadline = now + r.choice((1, 2, 30, 300, 3600, 28800, r.randint(1, 28800)))
    max_hops = r.choice((1, 2, 3, 3, 3, 5, 8))
    hop = r.randrange(max_hops)

    chain, seen = [], set()
    while len(chain) < hop + 1:
        # A small pool of agents: several instances of one SPIFFE ID in a chain are the usual case here.
        actor = {"spiffe_id": r.choice(AGENTS), "instance": hexes(r, 32)}
        if chain and r.random() < 0.1:
            actor["instance"] = chain[-1]["instance"]
        if (actor["spiffe_id"], actor["instance"]) not in seen:
            seen.add((actor["spiffe_id"], actor["instance"]))
            chain.append(actor)
    caller = {"spiffe_id": r.choice(AGENTS + [chain[-1]["spiffe_id"]] * 4), "instance": hexes(r, 32)}

    may_act = None
    if r.random() < 0.4:
        may_act = some(r, AGENTS, 0, 3)
        if caller["spiffe_id"] not in may_act:
            may_act.insert(r.randint(0, len(may_act)), caller["spiffe_id"])

    parent = {"audience": r.choice(AUDIENCES), "delegable": some(r, AUDIENCES, 1, 5)}
    child = {"audience": r.choice(parent["delegable"])}
    scope = some(r, SCOPES, 0, 6)
    if scope or r.random() < 0.5:
        parent["scope"] = scope
    scope = subset(r, scope)
    if scope or r.random() < 0.5:
        child["scope"] = scope
    delegable = subset(r, parent["delegable"])
    if delegable or r.random() < 0.5:
        child["delegable"] = delegable

    # Several details for one tool are the usual case too: each of them might be the one that subsumes.
    tools = r.sample(TOOLS, 2)
    for _ in range(r.choice((0, 1, 1, 2, 2, 3, 4))):
        put(r, parent, some_detail(r, None if r.random() < 0.2 else r.choice(tools)))
    details = parent.get("authorization_details", [])
    for _ in range(r.choice((0, 1, 1, 2, 3)) if details else 0):
        put(r, child, narrower_detail(r, r.choice(details)))
    if r.random() < 0.3:
        child.setdefault("authorization_details", [])

    return {
        "now": now,
        "parent": {
            "grant": shuffled(r, parent),
            "deadline": deadline,
            "state": "open",
            "hop": hop,
            "max_hops": max_hops,
            "chain": chain,
            "may_act": may_act,
        },
        "child": {
            "grant": shuffled(r, child),
            "deadline": r.choice((deadline, now + 1, r.randint(now + 1, deadline))),
            "max_hops": None if r.random() < 0.5 else r.randint(min(hop + 1, max_hops), max_hops),
            "caller": caller,
        },
    }


# --- Edges ---------------------------------------------------------------------------------------
#
# An edge takes a legitimate pair to one of its two sides: `over` is the illegal one.

EDGES = {}  # name: (code on the illegal side, function of r, pair, over)


def edge(name, code):
    def enter(function):
        EDGES[name] = (code, function)
        return function

    return enter


@edge("deadline.later", "deadline_exceeds_parent")
def _(r, pair, over):
    pair["child"]["deadline"] = pair["parent"]["deadline"] + over


@edge("open.at_deadline", "parent_not_open")
def _(r, pair, over):
    pair["now"] = pair["parent"]["deadline"] - (not over)


def state_edge(state):
    def function(r, pair, over):
        # Legal is an open parent of whose time one second is left: nothing but the state may decide.
        pair["now"] = pair["parent"]["deadline"] - 1
        pair["parent"]["state"] = state if over else "open"

    EDGES[f"open.{state}"] = ("parent_not_open", function)


for _state in ("suspended", "completed", "failed", "expired", "abandoned", "revoked"):
    state_edge(_state)


@edge("hop.too_deep", "too_deep")
def _(r, pair, over):
    parent, child = pair["parent"], pair["child"]
    parent["max_hops"] = parent["hop"] + (not over)
    if child["max_hops"] is not None:
        child["max_hops"] = min(child["max_hops"], parent["max_hops"])


@edge("hops.above_parent", "hops_exceed_parent")
def _(r, pair, over):
    pair["child"]["max_hops"] = pair["parent"]["max_hops"] + over


def grants(pair):
    return pair["parent"]["grant"], pair["child"]["grant"]


@edge("scope.extra", "scope_exceeds_parent")
def _(r, pair, over):
    parent, child = grants(pair)
    parent.setdefault("scope", [])
    left = [s for s in SCOPES if s not in parent["scope"]]
    child["scope"] = r.sample(parent["scope"], len(parent["scope"]))
    if over:
        child["scope"].insert(r.randint(0, len(child["scope"])), r.choice(left))


@edge("scope.near", "scope_exceeds_parent")
def _(r, pair, over):
    parent, child = grants(pair)
    # Neither case, nor a longer or shorter token, nor anything that looks like a pattern counts as the same.
    token = f"x{r.randint(0, 99)}:read"
    near = r.choice((token.upper(), token[:-1], token + "s", token + ":all", token.split(":")[0], "x*", "*", token + "."))
    parent["scope"] = parent.get("scope", []) + [token]
    child["scope"] = child.get("scope", []) + [near if over else token]


@edge("scope.none", "scope_exceeds_parent")
def _(r, pair, over):
    parent, child = grants(pair)
    parent.pop("scope", None)
    child.pop("scope", None)
    if r.random() < 0.5:
        parent["scope"] = []
    if over:
        child["scope"] = [r.choice(SCOPES)]
    elif r.random() < 0.5:
        child["scope"] = []


def near_audience(r, audience):
    return r.choice(
        (audience + "/", audience[:-1], audience.replace("example", "Example"), audience + "?", audience + "x",
         audience.replace("://", "://x."), audience.replace("example.org", "example.org:443"))
    )  # fmt: skip


@edge("audience.other", "audience_not_delegable")
def _(r, pair, over):
    parent, child = grants(pair)
    others = [a for a in AUDIENCES if a not in parent["delegable"]]
    child["audience"] = r.choice(others if over else parent["delegable"])


@edge("audience.near", "audience_not_delegable")
def _(r, pair, over):
    parent, child = grants(pair)
    audience = r.choice(parent["delegable"])
    near = near_audience(r, audience)
    while near in parent["delegable"]:
        near = near_audience(r, audience)
    child["audience"] = near if over else audience


@edge("audience.own", "audience_not_delegable")
def _(r, pair, over):
    # That the parent may go there itself does not mean that it may send others there.
    parent, child = grants(pair)
    parent["audience"] = f"https://own{r.randint(0, 99)}.example.org/mcp"
    child["audience"] = parent["audience"]
    if not over:
        parent["delegable"] = parent["delegable"] + [parent["audience"]]


@edge("audience.nowhere", "audience_not_delegable")
def _(r, pair, over):
    parent, child = grants(pair)
    audience = child["audience"]
    child.pop("delegable", None)
    parent["delegable"] = [] if over else [audience]
    if over and r.random() < 0.5:
        del parent["delegable"]


@edge("delegable.extra", "audience_not_delegable")
def _(r, pair, over):
    parent, child = grants(pair)
    child["delegable"] = r.sample(parent["delegable"], len(parent["delegable"]))
    if over:
        left = [a for a in AUDIENCES if a not in parent["delegable"]] + [parent["audience"]] * 5
        extra = r.choice([a for a in left if a not in parent["delegable"]])
        child["delegable"].insert(r.randint(0, len(child["delegable"])), extra)


@edge("delegable.near", "audience_not_delegable")
def _(r, pair, over):
    parent, child = grants(pair)
    child["delegable"] = list(parent["delegable"])
    if over:
        at = r.randrange(len(child["delegable"]))
        near = near_audience(r, child["delegable"][at])
        while near in parent["delegable"]:
            near = near_audience(r, child["delegable"][at])
        child["delegable"][at] = near


@edge("may_act.lacks", "actor_not_allowed")
def _(r, pair, over):
    caller = pair["child"]["caller"]["spiffe_id"]
    others = [a for a in some(r, AGENTS, 1, 4) if a != caller]
    # A parent's own holder in the list must not help the caller.
    others = others or ["spiffe://example.org/agent/another"]
    if not over:
        others.insert(r.randint(0, len(others)), caller)
    pair["parent"]["may_act"] = others


@edge("may_act.near", "actor_not_allowed")
def _(r, pair, over):
    caller = pair["child"]["caller"]["spiffe_id"]
    near = (caller + "/x", caller[:-1], caller + "2", caller.rsplit("/", 1)[0], caller.replace("example", "example.example"),
            caller.replace("/agent/", "/Agent/"))  # fmt: skip
    pair["parent"]["may_act"] = [caller if not over else r.choice(near)]


@edge("may_act.nobody", "actor_not_allowed")
def _(r, pair, over):
    pair["parent"]["may_act"] = [] if over else None


@edge("actor.holder", "actor_repeated")
def _(r, pair, over):
    repeat(r, pair, pair["parent"]["chain"][-1], over)


@edge("actor.earlier", "actor_repeated")
def _(r, pair, over):
    parent = pair["parent"]
    if len(parent["chain"]) < 2:
        parent["chain"].insert(0, {"spiffe_id": r.choice(AGENTS), "instance": hexes(r, 32)})
        parent["hop"] += 1
        parent["max_hops"] += 1
    repeat(r, pair, r.choice(parent["chain"][:-1]), over)


def repeat(r, pair, actor, over):
    """The caller is this actor; or it shares with it one of the two, which is no repetition."""
    caller = dict(actor)
    if not over and r.random() < 0.7:
        digits = caller["instance"]
        last = "0" if digits[-1] != "0" else "1"
        caller["instance"] = r.choice((hexes(r, 32), digits[:-1] + last))
    elif not over:
        caller["spiffe_id"] += "/other"
    pair["child"]["caller"] = caller
    may_act = pair["parent"]["may_act"]
    if may_act is not None and caller["spiffe_id"] not in may_act:
        pair["parent"]["may_act"] = may_act + [caller["spiffe_id"]]


# --- Edges of a detail ---------------------------------------------------------------------------
#
# The detail in question is put into the pair beside those that are there already. Nothing else may
# subsume the child's: so its tool is one that the pair does not have yet, and where it is of type
# `resource` there is no other of that type.


def unused_tool(r, pair):
    used = {d.get("tool") for d in pair["parent"]["grant"].get("authorization_details", [])}
    return r.choice([t for t in TOOLS if t not in used])


def no_resource(pair):
    for grant in grants(pair):
        if "authorization_details" in grant:
            grant["authorization_details"] = [d for d in grant["authorization_details"] if d["type"] != "resource"]


def fresh(r, pair, resource):
    """A detail for the parent, with an open field around it."""
    if resource:
        no_resource(pair)
        return some_detail(r)
    return some_detail(r, unused_tool(r, pair))


def decoy(r, detail):
    """A detail for the parent, of the same type and tool, that subsumes no child's that `detail` does not."""
    roll = r.random()
    if roll < 0.4:
        # What is narrower than `detail` subsumes only what `detail` subsumes too.
        return narrower_detail(r, detail)
    if roll < 0.7:
        # Wide open, but for one thing that no child has.
        wide = {"type": detail["type"]}
        if "tool" in detail:
            return wide | {"tool": detail["tool"], "constraints": {TICKET: some_constraint(r)}}
        return wide | {"identifier": NOBODY}
    if "tool" in detail:
        return detail | {"constraints": detail.get("constraints", {}) | {TICKET: some_constraint(r)}}
    return detail | {"identifier": NOBODY} if "identifier" not in detail else narrower_detail(r, detail)


def place(r, pair, parent, child, decoys=True):
    """Puts both details into the pair, and into the parent's grant some that look much the same."""
    above, below_ = grants(pair)
    put(r, above, parent)
    put(r, below_, child)
    for _ in range(r.choice((0, 1, 1, 2)) if decoys else 0):
        put(r, above, decoy(r, parent))


def list_edge(name, step):
    def function(r, pair, over):
        parent = fresh(r, pair, r.random() < 0.35)
        if step == "empty":
            parent[name] = []
        elif step == "absent":
            parent[name] = some_list(r, name)
        else:
            parent[name] = some(r, WORDS[name], 1, 4)
        child = narrower_detail(r, parent)
        whole = r.sample(parent[name], len(parent[name]))
        if not over:
            child[name] = whole
        elif step == "absent":
            del child[name]
        elif step == "empty":
            child[name] = [r.choice(WORDS[name])]
        elif r.random() < 0.5:
            child[name] = whole + [r.choice([w for w in WORDS[name] if w not in whole])]
        else:
            at = r.randrange(len(whole))
            near = r.choice((whole[at] + " ", whole[at] + "/", whole[at].swapcase() + "~", " " + whole[at], whole[at] + "\0"))
            child[name] = whole[:at] + [near] + whole[at + 1 :]
        place(r, pair, parent, child)

    EDGES[f"{name}.{step}"] = ("detail_exceeds_parent", function)


for _name in LISTS:
    for _step in ("extra", "absent", "empty"):
        list_edge(_name, _step)


def identifier_edge(step):
    def function(r, pair, over):
        parent = fresh(r, pair, r.random() < 0.35)
        parent["identifier"] = r.choice(IDENTIFIERS)
        child = narrower_detail(r, parent)
        if over and step == "absent":
            del child["identifier"]
        elif over:
            same = parent["identifier"]
            child["identifier"] = r.choice((same + "0", same[:-1], same.upper() + "-", r.choice([i for i in IDENTIFIERS if i != same])))
        place(r, pair, parent, child)

    EDGES[f"identifier.{step}"] = ("detail_exceeds_parent", function)


identifier_edge("other")
identifier_edge("absent")


@edge("tool.other", "detail_exceeds_parent")
def _(r, pair, over):
    parent = fresh(r, pair, False)
    child = narrower_detail(r, parent)
    if over:
        tool = parent["tool"]
        used = {d.get("tool") for d in pair["parent"]["grant"].get("authorization_details", [])} | {tool}
        near = [tool + "s", tool + "/", "/" + tool, tool[:-1], tool.swapcase(), tool + "/x", r.choice(TOOLS)]
        child["tool"] = r.choice([t for t in near if t and t not in used])
    place(r, pair, parent, child)


@edge("type.other", "detail_exceeds_parent")
def _(r, pair, over):
    no_resource(pair)
    tool = unused_tool(r, pair)
    parent = some_detail(r, tool if r.random() < 0.5 else None)
    child = narrower_detail(r, parent)
    if over and "tool" in parent:
        child = {m: v for m, v in child.items() if m not in ("tool", "constraints")} | {"type": "resource"}
    elif over:
        child = child | {"type": "mcp_tool", "tool": tool}
    place(r, pair, parent, child)


# What one detail allows in one place and another in another place is not added up.


def two_details(r, pair):
    one = fresh(r, pair, False)
    for name in LISTS + ["identifier", "constraints"]:
        one.pop(name, None)
    return one, dict(one)


@edge("split.lists", "detail_exceeds_parent")
def _(r, pair, over):
    one, two = two_details(r, pair)
    left, right = r.sample(LISTS, 2)
    a, b = r.sample(WORDS[left], 2)
    c, d = r.sample(WORDS[right], 2)
    one |= {left: [a], right: [c]}
    two |= {left: [b], right: [d]}
    child = one | {right: [d if over else c]}
    if r.random() < 0.4:  # the union of one list, where the other one is common to both
        two[right] = [c]
        child = one | {left: r.sample([a, b], 2) if over else [a]}
    place(r, pair, one, child, decoys=False)
    put(r, pair["parent"]["grant"], two)


@edge("split.constraints", "detail_exceeds_parent")
def _(r, pair, over):
    one, two = two_details(r, pair)
    x, y = r.sample(ARGUMENTS, 2)
    if r.random() < 0.5:
        a, b = "/srv/reports", "/srv/drafts"
        low, high = {"range": {"min": 1, "max": 10}}, {"range": {"min": 1, "max": 100}}
        one["constraints"] = {x: {"subpath": a}, y: low}
        two["constraints"] = {x: {"subpath": b}, y: high}
        child = one | {"constraints": {x: {"subpath": a + "/q1"}, y: high if over else low}}
    else:  # each of the two leaves one argument open, the child both
        first, second = some_constraint(r), some_constraint(r)
        one["constraints"] = {x: first}
        two["constraints"] = {y: second}
        child = one | {"constraints": {} if over else {x: first}}
    place(r, pair, one, child, decoys=False)
    put(r, pair["parent"]["grant"], two)


@edge("split.union", "detail_exceeds_parent")
def _(r, pair, over):
    one, two = two_details(r, pair)
    x = r.choice(ARGUMENTS)
    n = r.randint(1, 50)
    first, second, both = r.choice(
        (
            ({"range": {"min": 0, "max": n}}, {"range": {"min": n + 1, "max": 100}}, {"range": {"min": 0, "max": 100}}),
            ({"range": {"max": n}}, {"range": {"min": n + 1}}, {"one_of": [n, n + 1]}),
            ({"exact": "a"}, {"exact": "b"}, {"one_of": ["b", "a"]}),
            ({"one_of": ["a", 1]}, {"one_of": ["b", True]}, {"one_of": ["a", True]}),
            ({"prefix": "report-"}, {"prefix": "draft-"}, {"one_of": ["report-1", "draft-1"]}),
            ({"subpath": "/srv/a"}, {"subpath": "/srv/b"}, {"one_of": ["/srv/a/1", "/srv/b/1"]}),
            ({"cidr": "10.0.0.0/25"}, {"cidr": "10.0.0.128/25"}, {"cidr": "10.0.0.0/24"}),
        )
    )
    one["constraints"] = {x: first}
    two["constraints"] = {x: second}
    child = one | {"constraints": {x: both if over else first}}
    place(r, pair, one, child, decoys=False)
    put(r, pair["parent"]["grant"], two)
    if not over and r.random() < 0.5:  # two details in the child: each finds its own
        put(r, pair["child"]["grant"], dict(two))


@edge("constraint.absent", "detail_exceeds_parent")
def _(r, pair, over):
    parent = fresh(r, pair, False)
    name = r.choice(ARGUMENTS)
    parent["constraints"] = parent.get("constraints", {}) | {name: some_constraint(r)}
    child = narrower_detail(r, parent)
    mine = dict(child["constraints"])
    if over:
        # Under another spelling of its name it limits something else.
        limit = mine.pop(name)
        other = r.choice((name.upper(), name + "_", "_" + name, name + "s"))
        if r.random() < 0.5 and other not in mine and other != name:
            mine[other] = limit
        child["constraints"] = mine
        if not mine and r.random() < 0.5:
            del child["constraints"]
    place(r, pair, parent, child)


# --- Edges of a constraint -----------------------------------------------------------------------
#
# Each gives three constraints: the parent's, the child's that is just within it, the one that just is not.


def constraint_edge(name):
    def enter(make):
        def function(r, pair, over):
            above, legal, illegal = make(r)
            parent = fresh(r, pair, False)
            argument = r.choice(ARGUMENTS)
            limits = dict(parent.get("constraints", {}))
            limits[argument] = above
            parent["constraints"] = limits
            child = narrower_detail(r, parent)
            child["constraints"] = child["constraints"] | {argument: illegal if over else legal}
            place(r, pair, parent, child)

        EDGES[name] = ("detail_exceeds_parent", function)
        return make

    return enter


def exact(value):
    return {"exact": value}


def one_of(*values):
    return {"one_of": list(values)}


def limits(low=None, high=None):
    return {"range": {name: n for name, n in (("min", low), ("max", high)) if n is not None}}


def maybe_listed(r, value, *more):
    """One value, alone or among others that are legal."""
    if r.random() < 0.5:
        return exact(value)
    values = [v for v in more if kind(v) != kind(value)][:2] + [value]
    r.shuffle(values)
    return one_of(*values)


# Pairs of values that a careless comparison takes for one.
LOOKALIKE = [
    (1, "1"), (1, True), (0, False), ("true", True), ("false", False), (-7, "-7"), (42, "42"), ("", False), (0, ""),
    (LARGEST, str(LARGEST)), ("0", 0), ("True", True), (1, "1.0"),
]  # fmt: skip
NEAR_TEXT = [
    ("red", "Red"), ("red", "red "), ("red", " red"), ("caf\u00e9", "cafe\u0301"), ("a", "\u0430"), ("red", "red\0"),
    ("", " "), ("1", "01"), ("a\nb", "a\r\nb"), ("stra\u00dfe", "strasse"), ("10.1.0.1", "10.1.0.1/32"), ("/a", "/a/"),
]  # fmt: skip


def lookalike(r):
    a, b = r.choice(LOOKALIKE)
    return (a, b) if r.random() < 0.5 else (b, a)


def set_likes(r):
    """A text, and sets that hold it and perhaps nothing else: written so, none is within a list of values."""
    return r.choice(
        (
            ("/srv/x", {"subpath": "/srv/x"}),
            ("/srv/x", {"prefix": "/srv/x"}),
            ("10.0.0.1", {"cidr": "10.0.0.1/32"}),
            ("2001:db8::1", {"cidr": "2001:db8::1/128"}),
            ("red", {"prefix": "red"}),
        )
    )


@constraint_edge("exact.other")
def _(r):
    value = some_value(r)
    other = other_value(r, [value])
    if type(value) is int and abs(value) < LARGEST:
        other = value + r.choice((1, -1))
    return exact(value), exact(value), exact(other)


@constraint_edge("exact.kind")
def _(r):
    a, b = lookalike(r)
    return exact(a), exact(a), exact(b)


@constraint_edge("exact.text")
def _(r):
    a, b = r.choice(NEAR_TEXT)
    if r.random() < 0.5:
        a, b = b, a
    return exact(a), exact(a), exact(b)


@constraint_edge("exact.one_of")
def _(r):
    value = some_value(r)
    legal = one_of(value) if r.random() < 0.7 else one_of()
    return exact(value), legal, one_of(*r.sample([value, other_value(r, [value])], 2))


@constraint_edge("exact.range")
def _(r):
    n = r.randint(-9, 9)
    return exact(n), exact(n), limits(n, n)


@constraint_edge("exact.set")
def _(r):
    text, like = set_likes(r)
    return exact(text), maybe_listed(r, text), like


@constraint_edge("one_of.extra")
def _(r):
    values = some_values(r, 1, 6)
    legal = r.sample(values, len(values))
    illegal = legal + [other_value(r, values)]
    r.shuffle(illegal)
    return one_of(*values), one_of(*legal), one_of(*illegal)


@constraint_edge("one_of.exact")
def _(r):
    values = some_values(r, 1, 6)
    return one_of(*values), exact(r.choice(values)), exact(other_value(r, values))


@constraint_edge("one_of.kind")
def _(r):
    a, b = lookalike(r)
    values = [v for v in ("red", 5, "blue") if kind(v) != kind(b)] + [a]
    r.shuffle(values)
    return one_of(*values), maybe_listed(r, a, "red", 5), maybe_listed(r, b, "red", 5)


@constraint_edge("one_of.empty")
def _(r):
    value = some_value(r)
    return one_of(), one_of(), r.choice((exact(value), one_of(value)))


@constraint_edge("one_of.set")
def _(r):
    if r.random() < 0.5:
        n = r.randint(-3, 3)
        values = list(range(n, n + r.randint(1, 4)))
        return one_of(*values), one_of(*values), limits(values[0], values[-1])
    text, like = set_likes(r)
    return one_of(text, "else"), one_of(text), like


def some_span(r):
    low = r.choice((r.randint(-100, 100), 0, 1, -1, -LARGEST + 1))
    return low, low + r.choice((0, 1, r.randint(0, 1000)))


@constraint_edge("range.min")
def _(r):
    low, high = some_span(r)
    above = limits(low, high) if r.random() < 0.6 else limits(low)
    end = None if "max" not in above["range"] and r.random() < 0.5 else high
    return above, limits(low, end), limits(low - 1, end)


@constraint_edge("range.max")
def _(r):
    low, high = some_span(r)
    above = limits(low, high) if r.random() < 0.6 else limits(None, high)
    start = None if "min" not in above["range"] and r.random() < 0.5 else low
    return above, limits(start, high), limits(start, high + 1)


@constraint_edge("range.open_min")
def _(r):
    low, high = some_span(r)
    above = limits(low, high) if r.random() < 0.7 else limits(low)
    return above, limits(low, high), limits(None, high)


@constraint_edge("range.open_max")
def _(r):
    low, high = some_span(r)
    above = limits(low, high) if r.random() < 0.7 else limits(None, high)
    return above, limits(low, high), limits(low, None)


@constraint_edge("range.extreme")
def _(r):
    # No integer lies beyond, yet an open side is within an open side only.
    n = r.randint(-9, 9)
    if r.random() < 0.5:
        return limits(-LARGEST, n), limits(-LARGEST, n), limits(None, n)
    return limits(n, LARGEST), limits(n, LARGEST), limits(n, None)


@constraint_edge("range.exact")
def _(r):
    low, high = some_span(r)
    if r.random() < 0.5:
        return r.choice((limits(low, high), limits(None, high))), exact(high), exact(high + 1)
    return r.choice((limits(low, high), limits(low))), exact(low), exact(low - 1)


@constraint_edge("range.one_of")
def _(r):
    low = r.randint(-50, 50)
    high = low + r.randint(2, 50)
    inside = [low, high, r.randint(low + 1, high - 1)]
    legal = one_of(*inside) if r.random() < 0.8 else one_of()
    illegal = inside[:2] + [r.choice((low - 1, high + 1))]
    r.shuffle(illegal)
    return limits(low, high), legal, one_of(*illegal)


@constraint_edge("range.kind")
def _(r):
    n = r.choice((0, 1, 5))
    other = r.choice((str(n), bool(n), "", f"{n}.0"))
    return limits(r.choice((0, -3)), r.choice((5, 9))), maybe_listed(r, n, 2, 3), maybe_listed(r, other, 2, 3)


@constraint_edge("prefix.shorter")
def _(r):
    text = r.choice([s for s in STARTS if len(s) > 1]) + r.choice(("", "x", "é"))
    return {"prefix": text}, {"prefix": text}, {"prefix": text[:-1]}


@constraint_edge("prefix.changed")
def _(r):
    text = r.choice(STARTS)
    end = text[-1]
    other = text[:-1] + chr(ord(end) + 1)
    more = r.choice(("", "x", "-2026"))
    return {"prefix": text}, {"prefix": text + more}, {"prefix": other + more}


@constraint_edge("prefix.exact")
def _(r):
    text = r.choice(STARTS)
    return {"prefix": text}, exact(text + r.choice(("", "x"))), exact(text[:-1])


@constraint_edge("prefix.one_of")
def _(r):
    text = r.choice(STARTS)
    good = [text, text + "1", text + "-" + text]
    bad = good[:2] + [r.choice((text[:-1], "~" + text, text[:-1] + chr(ord(text[-1]) + 1) + "1"))]
    r.shuffle(bad)
    return {"prefix": text}, one_of(*good), one_of(*bad)


@constraint_edge("prefix.text")
def _(r):
    # A prefix is one of bytes: no case, no normal form, no space is looked through.
    start, legal, illegal = r.choice(
        (
            ("e", "e\u0301t\u00e9", "\u00e9t\u00e9"),
            ("\u00e9", "\u00e9t\u00e9", "e\u0301t\u00e9"),
            ("red", "redder", "Redder"),
            ("red", "red", " red"),
            ("/srv/", "/srv/../etc", "/srv"),
            ("https://a.example", "https://a.example.evil", "https://A.example"),
            ("\u6771", "\u6771\u4eac", "\u6772\u4eac"),
        )
    )
    set_or_value = r.random()
    return {"prefix": start}, *(({"prefix": t} if set_or_value < 0.4 else maybe_listed(r, t, start + "0") for t in (legal, illegal)))


@constraint_edge("prefix.kind")
def _(r):
    start, text, other = r.choice((("1", "12", 12), ("t", "true", True), ("f", "false", False), ("-", "-1", -1)))
    return {"prefix": start}, maybe_listed(r, text, start), maybe_listed(r, other, start)


@constraint_edge("prefix.set")
def _(r):
    start, text, other = r.choice(
        (
            ("/srv/", "/srv/a", {"subpath": "/srv/a"}),
            ("/", "/", {"subpath": "/"}),
            ("10.1.", "10.1.0.1", {"cidr": "10.1.0.0/16"}),
            ("2001:db8:", "2001:db8::1", {"cidr": "2001:db8::/64"}),
            ("1", "1", {"range": {"min": 1, "max": 1}}),
        )
    )
    return {"prefix": start}, r.choice((exact(text), {"prefix": text})), other


@constraint_edge("subpath.sibling")
def _(r):
    path = some_path(r)
    near = path + r.choice(("2", ".", "-x", " ", "s", "\\", "..", "\u00e9"))
    legal = r.choice((path, below(r, path)))
    illegal = near if r.random() < 0.6 else below(r, near)
    return {"subpath": path}, {"subpath": legal}, {"subpath": illegal}


@constraint_edge("subpath.above")
def _(r):
    path = some_path(r)
    up = path.rsplit("/", 1)[0] or "/"
    return {"subpath": path}, {"subpath": path}, {"subpath": up}


@constraint_edge("subpath.exact")
def _(r):
    path = some_path(r)
    up = path.rsplit("/", 1)[0] or "/"
    legal = r.choice((path, below(r, path)))
    illegal = r.choice((up, path + "2", path + "2/a", path[:-1] + chr(ord(path[-1]) + 1), "/else" + path))
    return {"subpath": path}, maybe_listed(r, legal, path), maybe_listed(r, illegal, path)


@constraint_edge("subpath.dots")
def _(r):
    path = r.choice(("/", some_path(r)))
    under = "" if path == "/" else path
    legal = under + r.choice(("/...", "/..x", "/.x", "/x..", "/x/.../y", "/a.b", "/%2e%2e", "/..%2fetc", "/..\\etc", "/\u2024\u2024"))
    illegal = under + r.choice(("/..", "/.", "/../etc", "/./x", "/x/..", "/x/../y", "/x/.", "/x/../../etc"))
    return {"subpath": path}, maybe_listed(r, legal, path), maybe_listed(r, illegal, path)


@constraint_edge("subpath.form")
def _(r):
    path = some_path(r)
    legal = path + r.choice(("", "/x", "/ ", "/a/b", "/~", "/\n"))
    illegal = r.choice((path + "/", path + "//x", path + "/x/", path + "/x\0y", path + "\0", path[1:], "", "." + path, "/" + path,
                        " " + path, "file://" + path, path + "//"))  # fmt: skip
    return {"subpath": path}, maybe_listed(r, legal, path), maybe_listed(r, illegal, path)


@constraint_edge("subpath.root")
def _(r):
    legal = r.choice(({"subpath": "/"}, exact("/"), {"subpath": some_path(r)}, exact(some_path(r))))
    illegal = exact(r.choice(("", "x", "//", "/..", "/.", "/x/", "x/y", "/\0", "\\x", "///")))
    return {"subpath": "/"}, legal, illegal


@constraint_edge("subpath.set")
def _(r):
    path = some_path(r)
    legal = r.choice(({"subpath": below(r, path)}, exact(path), one_of()))
    illegal = r.choice(({"prefix": path + "/"}, {"prefix": path}, exact(1), exact(True), one_of(path, 7), limits(1), {"cidr": "10.0.0.0/8"}))
    return {"subpath": path}, legal, illegal


def net(network):
    return {"cidr": str(network)}


@constraint_edge("cidr.wider")
def _(r):
    network = some_net(r)
    wider = Net(network.bits, network.first, network.length - 1)
    return net(network), net(r.choice((network, network.inner(r)))), net(wider)


@constraint_edge("cidr.neighbour")
def _(r):
    network = some_net(r)
    beside = Net(network.bits, network.first ^ network.size, network.length)
    return net(network), net(r.choice((network, network.inner(r)))), net(r.choice((beside, beside.inner(r))))


@constraint_edge("cidr.address")
def _(r):
    network = some_net(r)
    if r.random() < 0.5:
        legal, illegal = network.first, network.first - 1
    else:
        legal, illegal = network.last, network.last + 1
    some_inside = network.address(r)
    if r.random() < 0.3:  # as a network of one address
        return net(network), *(net(Net(network.bits, n, network.bits)) for n in (legal, illegal))
    return net(network), *(maybe_listed(r, network.name(n), some_inside) for n in (legal, illegal))


@constraint_edge("cidr.family")
def _(r):
    four, six = Net(32, 0, 0), Net(128, 0, 0)
    v4_net, v6_net = Net(32, 10 << 24 | r.getrandbits(24), r.randint(8, 32)), Net(128, 0x20010DB8 << 96, r.randint(32, 64))
    whole, mine, theirs = r.choice(((four, v4_net, v6_net), (six, v6_net, v4_net), (four, four, six), (six, six, four)))
    if r.random() < 0.5:
        return net(whole), net(mine), net(theirs)
    # The first address of the whole of IPv6 is "::", and of IPv4 "0.0.0.0": ordinary values both.
    return net(whole), exact(mine.name(mine.first)), exact(theirs.name(theirs.first))


@constraint_edge("cidr.mapped")
def _(r):
    n = 10 << 24 | 1 << 16 | r.getrandbits(16)
    mapped = r.choice((f"::ffff:{v4(n)}", f"::ffff:{n >> 16:x}:{n & 0xFFFF:x}"))
    if r.random() < 0.4:
        return {"cidr": "10.1.0.0/16"}, maybe_listed(r, v4(n), "10.1.0.0"), maybe_listed(r, mapped, "10.1.0.0")
    # The last address before those and the first one after them, in a network that has them all inside.
    whole = r.choice(("::/0", "::/16", "::/64"))
    beside = v6(r.choice((0xFFFEFFFFFFFF, 1 << 48)))
    edge_of = r.choice((mapped, "::ffff:0:0", "::ffff:ffff:ffff", "::ffff:0.0.0.0", "::ffff:255.255.255.255"))
    return {"cidr": whole}, maybe_listed(r, beside, "::1:0:0:1"), maybe_listed(r, edge_of, "::1:0:0:1")


@constraint_edge("cidr.canonical")
def _(r):
    if r.random() < 0.5:
        b = r.randint(1, 9)
        good = f"10.{b}.0.1"
        bad = r.choice((f"10.0{b}.0.1", f"010.{b}.0.1", f"10.{b}.1", f"10.{b}.0.1/32", f"10.{b}.0.1 ", f" 10.{b}.0.1", f"10.{b}.0.0x1",
                        f"10.{b}.0.1.", f"10.{b}.0.1:80", f"10.{b}.0.\u0661", f"10.{b}.0.256", str((10 << 24) + (b << 16) + 1)))  # fmt: skip
        return {"cidr": f"10.{b}.0.0/16"}, maybe_listed(r, good, f"10.{b}.255.255"), maybe_listed(r, bad, f"10.{b}.255.255")
    good, bad = r.choice(
        (
            ("2001:db8::a", "2001:DB8::a"),
            ("2001:db8::a", "2001:db8::A"),
            ("2001:db8::a", "2001:db8::000a"),
            ("2001:db8::a", "2001:0db8::a"),
            ("2001:db8::a", "2001:db8:0::a"),
            ("2001:db8::a", "2001:db8:0:0:0:0:0:a"),
            ("2001:db8::a", "[2001:db8::a]"),
            ("2001:db8::a", "2001:db8::a%eth0"),
            ("2001:db8::a", "2001:db8::a/128"),
            ("2001:db8:0:1:1:1:1:1", "2001:db8::1:1:1:1:1"),
            ("2001:db8::1:0:0:1", "2001:db8:0:0:1::1"),
            # Two runs of zeros that are equally long: the first one is shortened.
            ("2001:db8:1::1:0:0", "2001:db8:1:0:0:1::"),
            ("2001:db8:0:1::1", "2001:db8:0:1:0:0:0:1"),
            ("2001:db8:1::", "2001:db8:1:0::"),
        )
    )
    return {"cidr": "2001:db8::/32"}, maybe_listed(r, good, "2001:db8::"), maybe_listed(r, bad, "2001:db8::")


@constraint_edge("cidr.set")
def _(r):
    legal = r.choice(({"cidr": "10.1.0.0/17"}, exact("10.1.0.0"), one_of("10.1.255.255", "10.1.0.1"), one_of()))
    illegal = r.choice(({"prefix": "10.1."}, exact(167837697), exact(True), {"subpath": "/10.1.0.1"}, limits(167837696, 167903231)))
    return {"cidr": "10.1.0.0/16"}, legal, illegal


# --- Edges of the form ---------------------------------------------------------------------------
#
# The illegal side is a malformed grant. The step is taken where the rules would allow it, so that nothing
# but the form stands against it.

FORMS = {}  # name: function of r, pair, over


def form(name):
    def enter(function):
        FORMS[f"form.{name}"] = function
        return function

    return enter


def long_text(r, size):
    """A text of this many bytes; of fewer characters now and then, as it is bytes that count."""
    return ("é" * (size // 2) + "x" * (size % 2)) if r.random() < 0.5 else "x" * size


def detail_with(r, pair, **members):
    """A new detail of the child, legitimate as to the rules, with these members."""
    detail = fresh(r, pair, False)
    parent = {"type": "mcp_tool", "tool": detail["tool"]}
    put(r, pair["parent"]["grant"], parent)
    child = parent | members
    pair["child"]["grant"].setdefault("authorization_details", []).append(child)
    return child


@form("audience")
def _(r, pair, over):
    start = r.choice(("https://", "spiffe://"))
    legal = r.choice((start + "x" * (512 - len(start)), start + "a.example/!$&()*+,;=:@?~[]{}|^`<>%20", start + "x"))
    illegal = r.choice(
        (start + "x" * (513 - len(start)), "http://a.example/", "HTTPS://a.example/", "a.example", "", "https:/a.example", start + "a#b",
         start + "a b", start + 'a"b', start + "a\\b", start + "é", start + "a\x7f", start + "a\n", " " + start + "a", "urn:x", 7, None,
         ["https://a.example/"], "xhttps://a.example/")
    )  # fmt: skip
    audience = illegal if over else legal
    side = r.choice(("parent", "child"))
    pair[side]["grant"]["audience"] = audience
    if side == "child" and not over:
        pair["parent"]["grant"]["delegable"].append(audience)


def both(pair, member, value):
    """The same in both grants, so that the rules have nothing to say."""
    for grant in grants(pair):
        grant[member] = value


@form("scope")
def _(r, pair, over):
    many = [f"t{i}" for i in range(65)]
    legal, illegal = r.choice(
        (
            (["x" * 128], ["x" * 129]),
            (many[:64], many),
            (["a", "A"], ["a", "a"]),
            (["!#$%&'()*+,-./:;<=>?@[]^_`{|}~"], ["a" + r.choice(' "\\\té\x7f\0\n') + "b"]),
            (["a"], [""]),
            (["1"], [1]),
            (["a"], "a"),
            ([], None),
            ([], {}),
            (["true"], [True]),
        )
    )
    if over and r.random() < 0.5:
        r.choice(grants(pair))["scope"] = illegal
    else:
        both(pair, "scope", illegal if over else legal)


@form("delegable")
def _(r, pair, over):
    parent, child = grants(pair)
    mine = child["audience"]
    many = [mine] + [f"https://a{i}.example/" for i in range(64)]
    legal, illegal = r.choice(
        (
            ([mine, "https://x/" + "x" * 502], [mine, "https://x/" + "x" * 503]),
            (many[:64], many),
            ([mine, mine + "x"], [mine, mine]),
            ([mine, "https://x/y"], [mine, r.choice(("http://x/y", "x", "", "https://x/#y", 'https://x/"', "https://x y/", 1, None))]),
            ([mine], mine),
            ([mine], None),
        )
    )
    both(pair, "delegable", illegal if over else legal)


@form("member")
def _(r, pair, over):
    which = r.randrange(8)
    grant = r.choice(grants(pair))
    if which == 0:
        if over:
            grant[r.choice(("purpose", "Scope", "", "aud", "delegables", "act"))] = r.choice((None, [], "x"))
    elif which == 1:
        if over:
            del grant["audience"]
    elif which == 2:
        detail_with(r, pair, **({r.choice(("location", "Actions", "privileges", "")): []} if over else {"actions": []}))
    elif which == 3:
        no_resource(pair)
        parent, child = grants(pair)
        put(r, parent, {"type": "resource"})
        extra = {r.choice(("tool", "constraints")): "x"} if over else {}
        if "constraints" in extra:
            extra["constraints"] = {}
        child.setdefault("authorization_details", []).append({"type": "resource"} | extra)
    elif which == 4:
        child = detail_with(r, pair)
        if over:
            del child[r.choice(("tool", "type"))]
    elif which == 5:
        child = detail_with(r, pair)
        if over:
            child["type"] = r.choice(("MCP_TOOL", "mcp_tool ", "payment", "", None, 1, ["mcp_tool"], "mcp-tool"))
    elif which == 6:
        # An empty list is the same as none; anything else in its place is no grant.
        pair["child"]["grant"]["authorization_details"] = r.choice((None, {}, "x", {"type": "resource"})) if over else []
    elif over:
        r.choice(grants(pair)).setdefault("authorization_details", []).append(r.choice((None, "resource", [], 1)))


@form("details")
def _(r, pair, over):
    tool = unused_tool(r, pair)
    if r.random() < 0.5:
        parent = [{"type": "mcp_tool", "tool": tool}]
        child = [{"type": "mcp_tool", "tool": tool, "identifier": f"{i}"} for i in range(32 + over)]
    else:
        parent = [some_detail(r, tool)]
        child = [parent[0], dict(parent[0]) if over else narrower_detail(r, parent[0])]
        if not over and key(child[0]) == key(child[1]):
            child.pop()
    pair["parent"]["grant"]["authorization_details"] = parent
    pair["child"]["grant"]["authorization_details"] = child
    if over and r.random() < 0.3:
        pair["parent"]["grant"]["authorization_details"] = child


@form("tool")
def _(r, pair, over):
    child = detail_with(r, pair)
    legal = r.choice(("x" * 128, "a/b.c-d_E9", "/", "..", "-"))
    illegal = r.choice(("x" * 129, "", "a b", "a:b", "é", "a\n", "a\\b", "a+b", 7, None, "a\0", "\u0661"))
    child["tool"] = illegal if over else legal
    if not over:
        pair["parent"]["grant"]["authorization_details"].append({"type": "mcp_tool", "tool": legal})


@form("list")
def _(r, pair, over):
    many = [f"l{i}" for i in range(33)]
    legal, illegal = r.choice(
        (
            ([long_text(r, 512)], [long_text(r, 513)]),
            (many[:32], many),
            (["a", "A"], ["a", "b", "a"]),
            (["é"], [""]),
            (["1"], [1]),
            (["\0", " "], [None]),
            ([], None),
            (["a"], "a"),
            ([], {}),
        )
    )
    detail_with(r, pair, **{r.choice(LISTS): illegal if over else legal})


@form("identifier")
def _(r, pair, over):
    legal, illegal = r.choice(((long_text(r, 512), long_text(r, 513)), (" ", ""), ("a", ["a"]), ("1", 1), ("null", None)))
    detail_with(r, pair, identifier=illegal if over else legal)


@form("constraints")
def _(r, pair, over):
    limit = {"exact": 1}
    many = {f"a{i}": limit for i in range(33)}
    legal, illegal = r.choice(
        (
            (dict(list(many.items())[:32]), many),
            ({"x" * 64: limit}, {"x" * 65: limit}),
            ({"a-B_9": limit}, {r.choice(("a.b", "a b", "", "é", "a/b", "a\n", "$a", "a[0]")): limit}),
            ({}, []),
            ({}, None),
            ({"a": limit}, [limit]),
        )
    )
    detail_with(r, pair, constraints=illegal if over else legal)


def constraint_form(name):
    """The function gives (legal, illegal); the parent does not limit the argument at all, or just so."""

    def enter(make):
        def function(r, pair, over):
            legal, illegal = make(r)
            tool = unused_tool(r, pair)
            argument = r.choice(ARGUMENTS)
            detail = {"type": "mcp_tool", "tool": tool, "constraints": {argument: illegal if over else legal}}
            above = {"type": "mcp_tool", "tool": tool}
            put_both = r.random() < 0.4
            for grant, d in zip(grants(pair), (dict(detail) if put_both else above, detail)):
                grant.setdefault("authorization_details", []).append(d)

        FORMS[f"form.{name}"] = function
        return make

    return enter


@constraint_form("constraint")
def _(r):
    one = r.choice(({"exact": 1}, {"prefix": "a"}, {"subpath": "/a"}, {"range": {"min": 1}}, {"one_of": []}, {"cidr": "10.0.0.0/8"}))
    two = {"exact": 2} if "exact" not in one else {"one_of": [1]}
    return one, r.choice((one | two, {}, {"regex": "a.*"}, {"Exact": 1}, None, "a", [], 1, [one], {"not": one}, one | {"note": "x"}))


@constraint_form("value")
def _(r):
    legal, illegal = r.choice(
        ((LARGEST, LARGEST + 1), (-LARGEST, -LARGEST - 1), (long_text(r, 512), long_text(r, 513)), ("", None), (1, 1.5), ("a", ["a"]),
         ("{}", {}), (0, 2**64), (True, [True]), (-1, 1e300))
    )  # fmt: skip
    return (exact(legal), exact(illegal)) if r.random() < 0.6 else (one_of("z", legal), one_of("z", illegal))


@constraint_form("one_of")
def _(r):
    return r.choice(
        (
            (one_of(*range(64)), one_of(*range(65))),
            (one_of(1, "1", True), one_of(1, "1", 1)),
            (one_of(0, False, ""), one_of(False, 0, False)),
            (one_of("a", "A"), one_of("a", "b", "a")),
            (one_of(), {"one_of": None}),
            (one_of("a"), {"one_of": "a"}),
            (one_of(), {"one_of": {}}),
        )
    )


@constraint_form("range")
def _(r):
    n = r.randint(-99, 99)
    return r.choice(
        (
            (limits(n, n), limits(n + 1, n)),
            (limits(n), {"range": {}}),
            (limits(n, n), {"range": {"min": n, "max": n, "step": 1}}),
            (limits(n), {"range": {"min": str(n)}}),
            (limits(1), {"range": {"min": True}}),
            (limits(None, n), {"range": {"min": None, "max": n}}),
            (limits(None, LARGEST), limits(None, LARGEST + 1)),
            (limits(-LARGEST), limits(-LARGEST - 1)),
            (limits(n), {"range": {"min": n + 0.5}}),
            (limits(n, n + 1), {"range": [n, n + 1]}),
            (limits(n), {"range": n}),
        )
    )


@constraint_form("prefix")
def _(r):
    legal, illegal = r.choice((("a", ""), (long_text(r, 512), long_text(r, 513)), ("1", 1), ("\0", None), ("a", ["a"])))
    return {"prefix": legal}, {"prefix": illegal}


@constraint_form("subpath")
def _(r):
    legal, illegal = r.choice(
        (("/", ""), ("/", "//"), ("/a", "/a/"), ("/a", "a"), ("/a/b", "/a//b"), ("/a/...", "/a/.."), ("/..a", "/../a"), ("/.a", "/./a"),
         ("/a.", "/a/."), ("/a b", "/a\0b"), ("/" + "x" * 511, "/" + "x" * 512), ("/a", ["/a"]), ("/1", 1), ("/a", None), ("/~", "~/a"))
    )  # fmt: skip
    return {"subpath": legal}, {"subpath": illegal}


@constraint_form("cidr")
def _(r):
    legal, illegal = r.choice(
        (
            ("10.1.0.0/16", "10.1.0.1/16"),
            ("10.2.0.0/15", "10.1.0.0/15"),
            ("10.1.0.1/32", "10.1.0.1"),
            ("10.1.0.1/32", "10.1.0.1/33"),
            ("0.0.0.0/0", "0.0.0.0/00"),
            ("10.0.0.0/8", "10.0.0.0/08"),
            ("10.0.0.0/8", "10.0.0.0/+8"),
            ("10.0.0.0/8", "10.0.0.0/-8"),
            ("10.0.0.0/8", "010.0.0.0/8"),
            ("10.0.0.0/8", "10/8"),
            ("10.0.0.0/8", "10.0.0.0/255.0.0.0"),
            ("10.0.0.0/8", "10.0.0.0/8 "),
            ("10.0.0.0/8", "10.0.0.0/8/8"),
            ("10.0.0.0/8", "10.0.0.0/"),
            ("::/0", "::/129"),
            ("2001:db8::/32", "2001:DB8::/32"),
            ("2001:db8::/32", "2001:db8:0::/32"),
            ("2001:db8::/32", "2001:db8::1/32"),
            ("2001:db8::/32", "2001:0db8::/32"),
            ("2001:db8::1/128", "2001:db8::1%1/128"),
            ("::fffe:0:0/95", "::ffff:0:0/96"),
            ("::/80", "::ffff:0:0/97"),
            ("::fffe:0:0/96", "::ffff:10.1.0.0/112"),
            ("10.1.0.0/16", "::ffff:a01:0/112"),
            ("::1:0:0:0/96", "::ffff:a01:1/128"),
            ("10.1.0.0/16", ["10.1.0.0/16"]),
            ("10.1.0.0/16", None),
            ("10.1.0.0/16", ""),
        )
    )
    return {"cidr": legal}, {"cidr": illegal}


# --- Far -----------------------------------------------------------------------------------------


def several(r, pair):
    """Crosses edges of several rules: the first of them in the documented order is the answer."""
    codes = sorted(r.sample(range(len(RULES)), r.choice((2, 2, 2, 3, 4))))
    # The steps that change the caller or the chain come first, so that they undo none of the others.
    for i in sorted(codes, key=lambda i: -i if i >= RULES.index("actor_not_allowed") else i):
        r.choice(EDGES_OF[RULES[i]])(r, pair, True)
    return {"verdict": "refused", "code": RULES[codes[0]]}


def crossed(r, pair):
    """Some of the child from quite another pair."""
    other = legitimate(r)["child"]
    members = ("scope", "authorization_details", "delegable", "audience")
    for member in r.sample(members, r.randint(1, 2)) if r.random() < 0.8 else members:
        pair["child"]["grant"].pop(member, None)
        if member in other["grant"]:
            pair["child"]["grant"][member] = other["grant"][member]
    if r.random() < 0.2:
        pair["child"]["deadline"] = other["deadline"]


SMALL_TEXTS = ["/", "/a", "/a/b", "/ab", "/a/", "/a/../b", "10.0.0.0", "10.0.0.1", "10.0.0.2", "2001:db8::", "::ffff:a00:1", "1", "true", ""]
SMALL_VALUES = SMALL_TEXTS + [0, 1, 2, 3, True, False]


def small_constraint(r):
    which = r.randrange(6)
    if which == 0:
        return exact(r.choice(SMALL_VALUES))
    if which == 1:
        return one_of(*r.sample(SMALL_VALUES, r.randint(0, 3)))
    if which == 2:
        low = r.randint(0, 2)
        return r.choice((limits(low, low + r.randint(0, 2)), limits(low), limits(None, low)))
    if which == 3:
        return {"prefix": r.choice(("/", "/a", "/a/", "10.0.0.", "1", "10", "t", "2001:"))}
    if which == 4:
        return {"subpath": r.choice(("/", "/a", "/a/b", "/ab"))}
    return {"cidr": r.choice(("10.0.0.0/30", "10.0.0.0/31", "10.0.0.2/31", "10.0.0.1/32", "0.0.0.0/0", "2001:db8::/127", "::/0", "10.0.0.0/8"))}


def small_detail(r):
    detail = {"type": "mcp_tool", "tool": r.choice("ab")} if r.random() < 0.8 else {"type": "resource"}
    for name in LISTS:
        if r.random() < 0.3:
            detail[name] = r.sample(("x", "y"), r.randint(0, 2))
    if r.random() < 0.1:
        detail["identifier"] = r.choice("xy")
    if "tool" in detail and r.random() < 0.8:
        detail["constraints"] = {a: small_constraint(r) for a in r.sample(("p", "q"), r.choice((1, 1, 2)))}
    return detail


def small(r, pair):
    """Details of a tiny world, in which one is within another by mere chance often enough."""
    parent, child = grants(pair)
    parent["authorization_details"], child["authorization_details"] = [], []
    for _ in range(r.randint(1, 5)):
        put(r, parent, small_detail(r))
    for _ in range(r.choice((1, 1, 2))):
        put(r, child, small_detail(r))


def small_matrix(r, pair):
    """One constraint against one other, of any two kinds."""
    for grant in grants(pair):
        grant["authorization_details"] = [{"type": "mcp_tool", "tool": "a", "constraints": {"p": small_constraint(r)}}]


EDGES_OF = {code: [f for c, f in EDGES.values() if c == code] for code in RULES}


# --- All of it -----------------------------------------------------------------------------------

# What a hundred pairs are made of. The edges take turns, so that none is left to chance.
HUNDRED = (
    ["narrowed"] * 10 + ["edge legal"] * 33 + ["form legal"] * 5 + ["edge illegal"] * 37 + ["form illegal"] * 5 + ["far"] * 10
)  # fmt: skip
ALLOWED = {"verdict": "allowed"}
INVALID = {"verdict": "invalid"}


def turns(r, names):
    """Each of the names once, in a random order; then again."""
    names = list(names)
    while True:
        r.shuffle(names)
        yield from names


def generate(count, seed):
    """Gives (pair, edge or None, whether it is on the illegal side)."""
    r = random.Random(seed)
    turn = {what: turns(r, FORMS if what.startswith("form") else EDGES) for what in HUNDRED if what.endswith("legal")}
    plan = turns(r, HUNDRED)
    for number in range(count):
        what = next(plan)
        pair = legitimate(r)
        name, over, distance, expect = None, what.endswith(" illegal"), "legitimate", ALLOWED
        if what in turn:
            name = next(turn[what])
            if name in EDGES:
                code, step = EDGES[name]
            else:
                code, step = None, FORMS[name]
            step(r, pair, over)
            if over:
                distance = f"boundary:{name}"
                expect = {"verdict": "refused", "code": code} if code else INVALID
        elif what == "far":
            distance = "far"
            roll = r.random()
            if roll < 0.4:
                expect = several(r, pair)
            else:
                expect = None
                (crossed if roll < 0.55 else small if roll < 0.8 else small_matrix)(r, pair)

        verdict = judge(pair)
        if expect is not None and verdict != expect:
            raise AssertionError(
                f"pair {number} of seed {seed} ({what}, {name}) was made to be {expect}, judged {verdict}: {json.dumps(pair)}"
            )
        pair["expect"] = verdict
        pair["distance"] = distance
        yield pair, name, over


LEAST_CLASS, LEAST_LEGITIMATE, LEAST_BOUNDARY = 0.002, 0.40, 0.30


class Tally:
    def __init__(self):
        self.total = 0
        self.distances, self.verdicts = Counter(), Counter()
        self.sides = {name: [0, 0] for name in (*EDGES, *FORMS)}

    def add(self, pair, name, over):
        self.total += 1
        self.distances[pair["distance"].split(":")[0] + (" of the form" if name in FORMS and over else "")] += 1
        self.verdicts[pair["expect"].get("code", pair["expect"]["verdict"])] += 1
        if name:
            self.sides[name][over] += 1

    def share(self, n):
        return n / self.total if self.total else 0.0

    def summary(self, out):
        def row(text, *counts):
            columns = "".join(f"{n:9} {100 * self.share(n):6.2f} %" for n in counts)
            print(f"  {text:26}{columns}", file=out)

        print(f"{self.total} pairs", file=out)
        for name in ("legitimate", "boundary", "boundary of the form", "far"):
            row(name, self.distances[name])
        print("verdicts", file=out)
        for name in ("allowed", "invalid", *RULES):
            row(name, self.verdicts[name])
        print(f"edges{'':27}just legal      just illegal", file=out)
        for code in RULES:
            mine = [name for name, (c, _) in EDGES.items() if c == code]
            row(code, *(sum(self.sides[name][side] for name in mine) for side in (0, 1)))
            for name in mine:
                row("  " + name, *self.sides[name])
        print("  malformed", file=out)
        for name in FORMS:
            row("  " + name, *self.sides[name])

    def failures(self):
        if self.share(self.distances["legitimate"]) < LEAST_LEGITIMATE:
            yield "too few legitimate pairs"
        # Malformed grants are no steps over a rule and do not count for this.
        if self.share(self.distances["boundary"]) < LEAST_BOUNDARY:
            yield "too few pairs one step from legitimate"
        for name, sides in self.sides.items():
            for side, n in zip(("legal", "illegal"), sides):
                if self.share(n) < LEAST_CLASS:
                    yield f"{name}: {n} pairs are just {side}"


def main():
    options = argparse.ArgumentParser(description="Makes pairs of a parent and a child, with their verdicts.")
    options.add_argument("--count", type=int, default=5000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--summary", action="store_true", help="print the distribution on standard error")
    options.add_argument("--check", action="store_true", help="end with 1 where a class is too rare")
    options = options.parse_args()

    tally = Tally()
    for pair, name, over in generate(options.count, options.seed):
        tally.add(pair, name, over)
        sys.stdout.write(json.dumps(pair, separators=(",", ":")) + "\n")
    if options.summary:
        tally.summary(sys.stderr)
    failures = list(tally.failures()) if options.check else []
    for failure in failures:
        print(f"check: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
