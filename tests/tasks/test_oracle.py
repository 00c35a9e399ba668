"""Cases worked by hand from docs/tasks.md, sentence by sentence, and a few laws that the rules must obey.

    python3 -m unittest test_oracle
"""

import itertools
import json
import random
import unittest

import pairs
from oracle import Value, constraint_of, grant_of, judge, judge_text, within

FILES = "https://files.example.org/mcp"
MAIL = "https://mail.example.org/"
PLANNER = {"spiffe_id": "spiffe://example.org/agent/planner", "instance": "0" * 32}
READER = {"spiffe_id": "spiffe://example.org/agent/reader", "instance": "1" * 32}
CALLER = {"spiffe_id": "spiffe://example.org/agent/reader", "instance": "2" * 32}
N = 2**53 - 1

EXAMPLE = """{
  "audience": "https://files.example.org/mcp",
  "scope": ["files:read", "files:list"],
  "authorization_details": [
    {
      "type": "mcp_tool",
      "tool": "read_file",
      "locations": ["https://files.example.org/mcp"],
      "actions": ["call"],
      "constraints": {"path": {"subpath": "/srv/reports"}, "limit": {"range": {"min": 1, "max": 100}}}
    }
  ],
  "delegable": ["https://files.example.org/mcp", "https://mail.example.org/"]
}"""


def tool(**members):
    return {"type": "mcp_tool", "tool": "read_file"} | members


def resource(**members):
    return {"type": "resource"} | members


def pair(parent=None, child=None, now=1000, above=None, below=None):
    """A pair that is allowed, but for what is given: members of the grants, and of the tasks around them."""
    return {
        "now": now,
        "parent": {
            "grant": {"audience": FILES, "delegable": [FILES, MAIL]} | (parent or {}),
            "deadline": 2000,
            "state": "open",
            "hop": 1,
            "max_hops": 3,
            "chain": [PLANNER, READER],
            "may_act": None,
        }
        | (above or {}),
        "child": {"grant": {"audience": FILES} | (child or {}), "deadline": 2000, "max_hops": None, "caller": CALLER} | (below or {}),
    }


def without(p, side, *members):
    for member in members:
        p[side]["grant"].pop(member, None)
    return p


class Case(unittest.TestCase):
    def allowed(self, p):
        self.assertEqual(judge(p), {"verdict": "allowed"})

    def refused(self, code, p):
        self.assertEqual(judge(p), {"verdict": "refused", "code": code})

    def invalid(self, p):
        self.assertEqual(judge(p), {"verdict": "invalid"})

    # One detail each, and one constraint each.

    def subsumed(self, child, *parents):
        self.allowed(pair({"authorization_details": list(parents)}, {"authorization_details": [child]}))

    def exceeds(self, child, *parents):
        self.refused("detail_exceeds_parent", pair({"authorization_details": list(parents)}, {"authorization_details": [child]}))

    def inside(self, child, parent):
        self.subsumed(tool(constraints={"x": child}), tool(constraints={"x": parent}))

    def outside(self, child, parent):
        self.exceeds(tool(constraints={"x": child}), tool(constraints={"x": parent}))

    def good(self, constraint):
        self.allowed(pair({"authorization_details": [tool()]}, {"authorization_details": [tool(constraints={"x": constraint})]}))

    def bad(self, constraint):
        self.invalid(pair({"authorization_details": [tool()]}, {"authorization_details": [tool(constraints={"x": constraint})]}))


class Tasks(Case):
    """Rules 1, 2, 7 and 8."""

    def test_the_plain_pair_is_allowed(self):
        self.allowed(pair())

    def test_the_example_of_the_page_within_itself(self):
        p = pair()
        p["parent"]["grant"] = p["child"]["grant"] = json.loads(EXAMPLE)
        self.allowed(p)

    def test_a_deadline_that_is_the_parents_is_allowed(self):
        self.allowed(pair(below={"deadline": 2000}))

    def test_a_deadline_one_second_later_is_not(self):
        self.refused("deadline_exceeds_parent", pair(below={"deadline": 2001}))

    def test_the_last_second_before_the_deadline_is_open(self):
        self.allowed(pair(now=1999))

    def test_at_the_deadlines_second_it_has_passed(self):
        self.refused("parent_not_open", pair(now=2000))

    def test_after_the_deadline_it_has_passed(self):
        self.refused("parent_not_open", pair(now=2001))

    def test_no_state_but_open_is_open(self):
        for state in ("suspended", "completed", "failed", "expired", "abandoned", "revoked"):
            with self.subTest(state):
                self.refused("parent_not_open", pair(above={"state": state}))

    def test_the_last_hop_is_allowed(self):
        self.allowed(pair(above={"hop": 2, "max_hops": 3}))

    def test_one_hop_more_is_too_deep(self):
        self.refused("too_deep", pair(above={"hop": 3, "max_hops": 3}))

    def test_a_parent_without_hops_delegates_to_nobody(self):
        self.refused("too_deep", pair(above={"hop": 0, "max_hops": 0}))

    def test_the_parents_max_hops_may_be_asked_for(self):
        self.allowed(pair(below={"max_hops": 3}))

    def test_more_than_the_parents_max_hops_may_not(self):
        self.refused("hops_exceed_parent", pair(below={"max_hops": 4}))

    def test_who_asks_for_no_max_hops_gets_the_parents(self):
        # Also where the parent has fewer than the default of a root task.
        self.allowed(pair(above={"hop": 0, "max_hops": 1}))

    def test_no_may_act_allows_everybody(self):
        self.allowed(pair(above={"may_act": None}))

    def test_a_caller_in_may_act_is_allowed(self):
        self.allowed(pair(above={"may_act": ["spiffe://example.org/agent/x", CALLER["spiffe_id"]]}))

    def test_a_caller_not_in_may_act_is_refused(self):
        self.refused("actor_not_allowed", pair(above={"may_act": ["spiffe://example.org/agent/read"]}))

    def test_an_empty_may_act_allows_nobody(self):
        self.refused("actor_not_allowed", pair(above={"may_act": []}))

    def test_the_parents_own_holder_is_refused(self):
        self.refused("actor_repeated", pair(below={"caller": READER}))

    def test_the_root_of_the_chain_is_refused(self):
        self.refused("actor_repeated", pair(below={"caller": PLANNER}))

    def test_another_instance_of_the_same_id_is_allowed(self):
        self.allowed(pair(below={"caller": READER | {"instance": "3" * 32}}))

    def test_the_same_instance_under_another_id_is_allowed(self):
        self.allowed(pair(below={"caller": PLANNER | {"instance": "1" * 32}}))

    def test_the_first_rule_that_fails_is_the_answer(self):
        p = pair(
            {"scope": [], "delegable": []},
            {"scope": ["a"], "authorization_details": [tool()]},
            now=3000,
            above={"hop": 3, "may_act": []},
            below={"deadline": 2001, "max_hops": 4, "caller": READER},
        )
        mend = [
            ("deadline_exceeds_parent", lambda: p["child"].update(deadline=2000)),
            ("parent_not_open", lambda: p.update(now=1000)),
            ("too_deep", lambda: p["parent"].update(hop=1)),
            ("hops_exceed_parent", lambda: p["child"].update(max_hops=3)),
            ("scope_exceeds_parent", lambda: p["child"]["grant"].update(scope=[])),
            ("detail_exceeds_parent", lambda: p["child"]["grant"].update(authorization_details=[])),
            ("audience_not_delegable", lambda: p["parent"]["grant"].update(delegable=[FILES])),
            ("actor_not_allowed", lambda: p["parent"].update(may_act=None)),
            ("actor_repeated", lambda: p["child"].update(caller=CALLER)),
        ]
        for code, step in mend:
            self.refused(code, p)
            step()
        self.allowed(p)

    def test_a_malformed_grant_comes_before_all_rules(self):
        self.invalid(pair(child={"scope": None}, below={"deadline": 9999}))
        self.invalid(pair(parent={"scope": None}, now=9999))


class Lists(Case):
    """Rules 3 and 5."""

    def test_the_same_scope_in_another_order(self):
        self.allowed(pair({"scope": ["a", "b"]}, {"scope": ["b", "a"]}))

    def test_a_part_of_the_scope(self):
        self.allowed(pair({"scope": ["a", "b"]}, {"scope": ["b"]}))

    def test_one_scope_token_more(self):
        self.refused("scope_exceeds_parent", pair({"scope": ["a", "b"]}, {"scope": ["a", "b", "c"]}))

    def test_scope_tokens_have_no_inner_structure(self):
        self.refused("scope_exceeds_parent", pair({"scope": ["files"]}, {"scope": ["files:read"]}))
        self.refused("scope_exceeds_parent", pair({"scope": ["files:read"]}, {"scope": ["files"]}))
        self.refused("scope_exceeds_parent", pair({"scope": ["files:read"]}, {"scope": ["Files:read"]}))

    def test_a_scope_left_out_is_none(self):
        self.refused("scope_exceeds_parent", pair({}, {"scope": ["a"]}))
        self.allowed(pair({"scope": ["a"]}, {}))
        self.allowed(pair({}, {"scope": []}))
        self.allowed(pair({"scope": []}, {}))

    def test_an_audience_that_is_not_delegable(self):
        self.refused("audience_not_delegable", pair(child={"audience": "https://other.example.org/"}))

    def test_audiences_are_compared_byte_for_byte(self):
        for near in (FILES + "/", FILES[:-1], FILES.replace("files", "Files"), FILES.replace(".org", ".org:443")):
            self.refused("audience_not_delegable", pair(child={"audience": near}))

    def test_the_parents_own_audience_is_not_delegable_by_itself(self):
        self.refused("audience_not_delegable", pair(parent={"delegable": [MAIL]}, child={"audience": FILES}))

    def test_delegable_left_out_delegates_to_nobody(self):
        self.refused("audience_not_delegable", without(pair(), "parent", "delegable"))
        self.refused("audience_not_delegable", pair(parent={"delegable": []}))

    def test_the_childs_delegable(self):
        self.allowed(pair(child={"delegable": [MAIL, FILES]}))
        self.allowed(pair(child={"delegable": []}))
        self.refused("audience_not_delegable", pair(child={"delegable": [MAIL, "https://other.example.org/"]}))


class Details(Case):
    """Rule 4 without the constraints."""

    def test_no_details_are_within_any(self):
        self.allowed(pair({}, {"authorization_details": []}))
        self.allowed(pair({"authorization_details": [tool()]}, {}))

    def test_a_detail_where_the_parent_has_none(self):
        self.exceeds(tool())

    def test_a_detail_within_itself(self):
        d = tool(locations=["l"], actions=["a", "b"], datatypes=[], identifier="i", constraints={"x": {"exact": 1}})
        self.subsumed(d, d)

    def test_tools_are_equal_or_not(self):
        self.exceeds(tool(), {"type": "mcp_tool", "tool": "read_files"})
        self.exceeds(tool(), {"type": "mcp_tool", "tool": "Read_file"})

    def test_types_are_equal_or_not(self):
        self.exceeds(resource(), tool())
        self.exceeds(tool(), resource())

    def test_a_list_that_the_parent_leaves_out_is_not_limited(self):
        for name in ("locations", "actions", "datatypes"):
            self.subsumed(tool(**{name: ["a"]}), tool())
            self.subsumed(resource(**{name: []}), resource())
            self.subsumed(resource(), resource())

    def test_a_list_that_only_the_child_leaves_out_exceeds(self):
        for name in ("locations", "actions", "datatypes"):
            self.exceeds(tool(), tool(**{name: ["a"]}))
            self.exceeds(resource(), resource(**{name: []}))

    def test_an_empty_list_is_none_at_all(self):
        for name in ("locations", "actions", "datatypes"):
            self.subsumed(tool(**{name: []}), tool(**{name: []}))
            self.subsumed(tool(**{name: []}), tool(**{name: ["a"]}))
            self.exceeds(tool(**{name: ["a"]}), tool(**{name: []}))

    def test_elements_of_a_list(self):
        self.subsumed(tool(actions=["b", "a"]), tool(actions=["a", "b", "c"]))
        self.exceeds(tool(actions=["a", "d"]), tool(actions=["a", "b", "c"]))
        self.exceeds(tool(actions=["A"]), tool(actions=["a"]))
        self.exceeds(tool(actions=["a"]), tool(locations=["a"], actions=["b"]))

    def test_identifiers(self):
        self.subsumed(tool(identifier="i"), tool())
        self.subsumed(tool(identifier="i"), tool(identifier="i"))
        self.exceeds(tool(), tool(identifier="i"))
        self.exceeds(tool(identifier="i2"), tool(identifier="i"))

    def test_one_of_several_details_is_enough(self):
        self.subsumed(tool(actions=["b"]), tool(actions=["a"]), resource(), tool(actions=["b"]))

    def test_two_details_are_not_added_up(self):
        one, two = tool(actions=["read"], locations=["a"]), tool(actions=["write"], locations=["b"])
        self.exceeds(tool(actions=["write"], locations=["a"]), one, two)
        self.exceeds(tool(actions=["read", "write"], locations=["a"]), one, two)
        self.subsumed(tool(actions=["write"], locations=["b"]), one, two)

    def test_ranges_of_two_details_are_not_added_up(self):
        low, high = ({"range": {"min": a, "max": b}} for a, b in ((1, 10), (11, 20)))
        self.exceeds(
            tool(constraints={"x": {"range": {"min": 1, "max": 20}}}), tool(constraints={"x": low}), tool(constraints={"x": high})
        )

    def test_every_detail_of_the_child_counts(self):
        p = pair({"authorization_details": [tool()]}, {"authorization_details": [tool(), resource()]})
        self.refused("detail_exceeds_parent", p)

    def test_an_argument_that_only_the_parent_limits(self):
        self.exceeds(tool(), tool(constraints={"x": {"exact": 1}}))
        self.exceeds(tool(constraints={}), tool(constraints={"x": {"exact": 1}}))
        self.exceeds(tool(constraints={"X": {"exact": 1}}), tool(constraints={"x": {"exact": 1}}))
        self.exceeds(tool(), tool(constraints={"x": {"one_of": []}}))

    def test_an_argument_that_only_the_child_limits(self):
        self.subsumed(tool(constraints={"x": {"exact": 1}}), tool())
        self.subsumed(tool(constraints={"x": {"exact": 1}, "y": {"exact": 2}}), tool(constraints={"y": {"exact": 2}}))

    def test_each_argument_is_looked_at(self):
        parent = tool(constraints={"x": {"exact": 1}, "y": {"exact": 2}})
        self.exceeds(tool(constraints={"x": {"exact": 1}, "y": {"exact": 3}}), parent)
        self.exceeds(tool(constraints={"x": {"exact": 2}, "y": {"exact": 1}}), parent)


class Constraints(Case):
    def test_exact(self):
        self.inside({"exact": "a"}, {"exact": "a"})
        self.outside({"exact": "b"}, {"exact": "a"})
        self.inside({"exact": ""}, {"exact": ""})

    def test_kinds_are_never_equal(self):
        for a, b in itertools.permutations((1, "1", True, "true"), 2):
            self.outside({"exact": a}, {"exact": b})
            self.outside({"exact": a}, {"one_of": [b, "z"]})
            self.outside({"one_of": ["z", a]}, {"one_of": [b, "z"]})
        self.outside({"exact": False}, {"exact": 0})
        self.outside({"exact": 0}, {"exact": ""})

    def test_exact_and_one_of(self):
        self.inside({"one_of": ["a"]}, {"exact": "a"})
        self.outside({"one_of": ["a", "b"]}, {"exact": "a"})
        self.inside({"exact": "a"}, {"one_of": ["b", "a"]})
        self.outside({"exact": "c"}, {"one_of": ["b", "a"]})

    def test_one_of(self):
        self.inside({"one_of": [2, 1]}, {"one_of": [1, 2, 3]})
        self.outside({"one_of": [1, 4]}, {"one_of": [1, 2, 3]})

    def test_an_empty_one_of_is_within_everything(self):
        for c in SPECIMENS:
            self.inside({"one_of": []}, c)

    def test_nothing_but_the_empty_one_of_is_within_the_empty_one_of(self):
        for c in SPECIMENS:
            if c != {"one_of": []}:
                self.outside(c, {"one_of": []})

    def test_ranges(self):
        p = {"range": {"min": 1, "max": 100}}
        self.inside(p, p)
        self.inside({"range": {"min": 2, "max": 99}}, p)
        self.outside({"range": {"min": 0, "max": 100}}, p)
        self.outside({"range": {"min": 1, "max": 101}}, p)

    def test_an_open_side_is_within_an_open_side_only(self):
        self.outside({"range": {"min": 1}}, {"range": {"min": 1, "max": 100}})
        self.outside({"range": {"max": 100}}, {"range": {"min": 1, "max": 100}})
        self.inside({"range": {"min": 1}}, {"range": {"min": 1}})
        self.inside({"range": {"min": 1, "max": 5}}, {"range": {"min": 1}})
        self.outside({"range": {"max": 5}}, {"range": {"min": 1}})
        self.outside({"range": {"max": 5}}, {"range": {"min": -N, "max": 5}})
        self.outside({"range": {"min": 5}}, {"range": {"min": 5, "max": N}})

    def test_values_in_a_range(self):
        p = {"range": {"min": 1, "max": 100}}
        self.inside({"exact": 1}, p)
        self.inside({"exact": 100}, p)
        self.inside({"one_of": [1, 50, 100]}, p)
        self.outside({"exact": 0}, p)
        self.outside({"exact": 101}, p)
        self.outside({"one_of": [1, 101]}, p)
        self.outside({"exact": "5"}, p)
        self.outside({"exact": True}, p)

    def test_a_range_of_one_value_is_not_exact(self):
        self.outside({"range": {"min": 5, "max": 5}}, {"exact": 5})
        self.outside({"range": {"min": 5, "max": 6}}, {"one_of": [5, 6]})

    def test_prefixes(self):
        self.inside({"prefix": "abc"}, {"prefix": "abc"})
        self.inside({"prefix": "abcd"}, {"prefix": "abc"})
        self.outside({"prefix": "ab"}, {"prefix": "abc"})
        self.outside({"prefix": "abd"}, {"prefix": "abc"})
        self.outside({"prefix": "Abc"}, {"prefix": "abc"})

    def test_values_with_a_prefix(self):
        self.inside({"exact": "abc"}, {"prefix": "abc"})
        self.inside({"one_of": ["abc", "abcd"]}, {"prefix": "abc"})
        self.outside({"exact": "ab"}, {"prefix": "abc"})
        self.outside({"exact": 12}, {"prefix": "1"})

    def test_a_prefix_is_one_of_bytes(self):
        self.inside({"exact": "e\u0301"}, {"prefix": "e"})
        self.outside({"exact": "\u00e9"}, {"prefix": "e"})
        self.outside({"exact": "e\u0301"}, {"prefix": "\u00e9"})

    def test_subpaths(self):
        self.inside({"subpath": "/srv/reports"}, {"subpath": "/srv/reports"})
        self.inside({"subpath": "/srv/reports/q1"}, {"subpath": "/srv/reports"})
        self.inside({"subpath": "/srv"}, {"subpath": "/"})
        self.inside({"subpath": "/"}, {"subpath": "/"})
        self.outside({"subpath": "/srv/reports2"}, {"subpath": "/srv/reports"})
        self.outside({"subpath": "/srv"}, {"subpath": "/srv/reports"})
        self.outside({"subpath": "/"}, {"subpath": "/srv"})

    def test_values_below_a_path(self):
        p = {"subpath": "/srv/reports"}
        for value in ("/srv/reports", "/srv/reports/a", "/srv/reports/...", "/srv/reports/..a", "/srv/reports/%2e%2e", "/srv/reports/\\.."):
            self.inside({"exact": value}, p)
        for value in ("/srv/reports2", "/srv", "/srv/reports/", "/srv/reports//a", "/srv/reports/..", "/srv/reports/../x",
                      "/srv/reports/./a", "/srv/reports/.", "srv/reports/a", "/srv/reports/a\0", "//srv/reports", "", 1, True):  # fmt: skip
            self.outside({"exact": value}, p)

    def test_values_below_the_root(self):
        self.inside({"one_of": ["/", "/a"]}, {"subpath": "/"})
        for value in ("", "a", "//", "/..", "/a/"):
            self.outside({"exact": value}, {"subpath": "/"})

    def test_networks(self):
        self.inside({"cidr": "10.1.0.0/16"}, {"cidr": "10.1.0.0/16"})
        self.inside({"cidr": "10.1.128.0/17"}, {"cidr": "10.1.0.0/16"})
        self.inside({"cidr": "10.1.2.3/32"}, {"cidr": "10.1.0.0/16"})
        self.outside({"cidr": "10.0.0.0/15"}, {"cidr": "10.1.0.0/16"})
        self.outside({"cidr": "10.2.0.0/16"}, {"cidr": "10.1.0.0/16"})
        self.inside({"cidr": "2001:db8:1::/48"}, {"cidr": "2001:db8::/32"})
        self.outside({"cidr": "2001:db8::/31"}, {"cidr": "2001:db8::/32"})

    def test_networks_of_two_families(self):
        self.outside({"cidr": "10.0.0.0/8"}, {"cidr": "::/0"})
        self.outside({"cidr": "2001:db8::/32"}, {"cidr": "0.0.0.0/0"})
        self.outside({"exact": "10.0.0.1"}, {"cidr": "::/0"})
        self.outside({"exact": "::"}, {"cidr": "0.0.0.0/0"})

    def test_addresses(self):
        p = {"cidr": "10.1.0.0/16"}
        self.inside({"one_of": ["10.1.0.0", "10.1.255.255"]}, p)
        for value in ("10.0.255.255", "10.2.0.0", "10.1.0.1/32", "10.01.0.1", "10.1.1", " 10.1.0.1", "10.1.0.1\n", 167837697, ""):
            self.outside({"exact": value}, p)

    def test_addresses_in_rfc_5952(self):
        p = {"cidr": "2001:db8::/32"}
        for value in ("2001:db8::", "2001:db8::1", "2001:db8:0:1::1", "2001:db8:1::1:0:0", "2001:db8:0:1:1:1:1:1"):
            self.inside({"exact": value}, p)
        for value in ("2001:DB8::1", "2001:db8::0001", "2001:0db8::1", "2001:db8:0::1", "2001:db8:0:0:0:0:0:1", "2001:db8::1%eth0",
                      "2001:db8:1:0:0:1::", "2001:db8::1:1:1:1:1", "[2001:db8::1]", "2001:db8::1/128"):  # fmt: skip
            self.outside({"exact": value}, p)

    def test_mapped_addresses_are_no_values(self):
        for network in ("::/0", "::/64", "10.1.0.0/16"):
            for value in ("::ffff:10.1.0.1", "::ffff:a01:1"):
                self.outside({"exact": value}, {"cidr": network})
        self.inside({"exact": "::fffe:ffff:ffff"}, {"cidr": "::/0"})
        self.inside({"exact": "::1:0:0:0"}, {"cidr": "::/0"})

    def test_all_else_is_refused(self):
        # Each of these is within the other as a set, or so it seems, and in no way that is listed.
        self.outside({"subpath": "/srv/a"}, {"prefix": "/srv/"})
        self.outside({"prefix": "/srv/"}, {"subpath": "/srv"})
        self.outside({"subpath": "/srv"}, {"exact": "/srv"})
        self.outside({"prefix": "a"}, {"exact": "a"})
        self.outside({"cidr": "10.0.0.1/32"}, {"exact": "10.0.0.1"})
        self.outside({"cidr": "10.0.0.1/32"}, {"one_of": ["10.0.0.1"]})
        self.outside({"cidr": "10.1.0.0/16"}, {"prefix": "10.1."})
        self.outside({"range": {"min": 1, "max": 1}}, {"prefix": "1"})


class Form(Case):
    def test_audience(self):
        for audience in ("https://" + "x" * 504, "spiffe://example.org/a", "https://a/~!$&()*+,;=:@?[]"):
            self.allowed(pair({"delegable": [audience]}, {"audience": audience}))
        for audience in ("https://" + "x" * 505, "http://a/", "HTTPS://a/", "a", "", "https://a#", "https://a b", 'https://a"', "https://a\\",
                         "https://ä", "https://a\n", "https://a\x7f", None, 1, ["https://a"]):  # fmt: skip
            self.invalid(pair({}, {"audience": audience}))
        self.invalid(without(pair(), "child", "audience"))
        self.invalid(without(pair(), "parent", "audience"))

    def test_scope(self):
        for token in ("x" * 128, "!#$%&'()*+,-./:;<=>?@[]^_`{|}~"):
            self.allowed(pair({"scope": [token]}, {"scope": [token]}))
        for token in ("x" * 129, "", "a b", 'a"', "a\\", "é", "a\n", "\x7f", 1, None, True):
            self.invalid(pair({}, {"scope": [token]}))

    def test_lists_of_a_grant(self):
        many = [f"t{i}" for i in range(65)]
        self.allowed(pair({"scope": many[:64]}, {"scope": many[:64]}))
        self.invalid(pair({"scope": many}))
        self.invalid(pair({"scope": ["a", "b", "a"]}))
        self.invalid(pair({"delegable": [FILES, FILES]}))
        uris = [FILES] + [f"https://a{i}/" for i in range(64)]
        self.allowed(pair({"delegable": uris[:64]}))
        self.invalid(pair({"delegable": uris}))
        self.invalid(pair({"delegable": [FILES, "http://a/"]}))
        for bad in (None, "a", {}, 1):
            for member in ("scope", "delegable", "authorization_details"):
                self.invalid(pair({}, {member: bad}))

    def test_unknown_members(self):
        self.invalid(pair({"purpose": "x"}))
        self.invalid(pair({"Scope": []}))
        self.invalid(pair({"authorization_details": [tool(location=[])]}))
        self.invalid(pair({"authorization_details": [resource(tool="x")]}))
        self.invalid(pair({"authorization_details": [resource(constraints={})]}))

    def test_a_grant_is_an_object(self):
        for bad in (None, [], "x", 1):
            p = pair()
            p["child"]["grant"] = bad
            self.invalid(p)

    def test_a_member_twice_shows_only_in_the_text(self):
        text = json.dumps(pair({"scope": ["a"]}))
        self.assertEqual(judge_text(text), {"verdict": "allowed"})
        self.assertEqual(judge_text(text.replace('"scope": ["a"]', '"scope": ["a"], "scope": ["a"]')), {"verdict": "invalid"})

    def test_types(self):
        for bad in ("payment", "MCP_TOOL", "", None, 1, ["mcp_tool"]):
            self.invalid(pair({"authorization_details": [{"type": bad, "tool": "x"}]}))
        self.invalid(pair({"authorization_details": [{"tool": "x"}]}))
        self.invalid(pair({"authorization_details": [{"type": "mcp_tool"}]}))
        self.invalid(pair({"authorization_details": ["resource"]}))

    def test_number_of_details(self):
        many = [tool(identifier=str(i)) for i in range(33)]
        self.allowed(pair({"authorization_details": many[:32]}))
        self.invalid(pair({"authorization_details": many}))

    def test_a_detail_twice(self):
        self.invalid(pair({"authorization_details": [tool(actions=["a", "b"]), tool(actions=["b", "a"])]}))
        self.allowed(pair({"authorization_details": [tool(), tool(actions=[])]}))
        one, another = tool(constraints={"x": {"exact": 1}}), tool(constraints={"x": {"one_of": [1]}})
        self.allowed(pair({"authorization_details": [one, another]}))

    def test_tool(self):
        for name in ("x" * 128, "a/b.c_d-E9", "/"):
            self.allowed(pair({"authorization_details": [tool(tool=name)]}))
        for name in ("x" * 129, "", "a b", "a:b", "é", "a\n", 1, None):
            self.invalid(pair({"authorization_details": [tool(tool=name)]}))

    def test_lists_of_a_detail(self):
        for name in ("locations", "actions", "datatypes"):
            self.allowed(pair({"authorization_details": [resource(**{name: [str(i) for i in range(32)]})]}))
            self.allowed(pair({"authorization_details": [resource(**{name: ["é" * 256]})]}))
            for bad in ([str(i) for i in range(33)], ["é" * 256 + "x"], [""], ["a", "a"], [1], None, "a", {}, ["\ud800"]):
                self.invalid(pair({"authorization_details": [resource(**{name: bad})]}))

    def test_identifier(self):
        self.allowed(pair({"authorization_details": [resource(identifier="x" * 512)]}))
        for bad in ("x" * 513, "", None, 1, ["a"]):
            self.invalid(pair({"authorization_details": [resource(identifier=bad)]}))

    def test_arguments(self):
        self.allowed(pair({"authorization_details": [tool(constraints={"x" * 64: {"exact": 1}, "a-B_9": {"exact": 1}})]}))
        for name in ("x" * 65, "", "a.b", "a b", "é", "a\n", "a/b"):
            self.invalid(pair({"authorization_details": [tool(constraints={name: {"exact": 1}})]}))
        many = {f"a{i}": {"exact": 1} for i in range(33)}
        self.invalid(pair({"authorization_details": [tool(constraints=many)]}))
        many.pop("a0")
        self.allowed(pair({"authorization_details": [tool(constraints=many)]}))
        for bad in (None, [], "x"):
            self.invalid(pair({"authorization_details": [tool(constraints=bad)]}))

    def test_a_constraint_has_exactly_one_member(self):
        for bad in ({}, {"exact": 1, "prefix": "a"}, {"exact": 1, "note": ""}, {"regex": "a"}, {"Exact": 1}, None, "a", [], [{"exact": 1}]):
            self.bad(bad)

    def test_values(self):
        for value in ("", "x" * 512, "é" * 256, N, -N, 0, True, False, "\0"):
            self.good({"exact": value})
            self.good({"one_of": [value]})
        for value in ("x" * 513, "é" * 257, N + 1, -N - 1, 1.5, 1.0, None, [], {}, "\ud800"):
            self.bad({"exact": value})
            self.bad({"one_of": [value]})

    def test_one_of(self):
        self.good({"one_of": list(range(64))})
        self.good({"one_of": [1, "1", True]})
        for bad in (list(range(65)), [1, 1], ["a", "a"], [True, True], None, "a", {}):
            self.bad({"one_of": bad})

    def test_range(self):
        for good in ({"min": 1}, {"max": 1}, {"min": 1, "max": 1}, {"min": -N, "max": N}):
            self.good({"range": good})
        for bad in ({}, {"min": 2, "max": 1}, {"min": 1, "step": 1}, {"min": "1"}, {"min": True}, {"min": None, "max": 1}, {"min": 1.5},
                    {"max": N + 1}, {"min": -N - 1}, [1, 2], None, 1):  # fmt: skip
            self.bad({"range": bad})

    def test_prefix(self):
        self.good({"prefix": "x" * 512})
        for bad in ("", "x" * 513, 1, None, ["a"]):
            self.bad({"prefix": bad})

    def test_subpath(self):
        for good in ("/", "/a", "/a/b", "/...", "/.a", "/a b"):
            self.good({"subpath": good})
        for bad in ("", "a", "//", "/a/", "/a//b", "/.", "/..", "/a/../b", "/a/./b", "/a\0", None, 1):
            self.bad({"subpath": bad})

    def test_cidr(self):
        for good in ("0.0.0.0/0", "10.1.0.0/16", "10.1.2.3/32", "::/0", "2001:db8::/32", "::1/128", "::fffe:0:0/95", "::1:0:0:0/96"):
            self.good({"cidr": good})
        for bad in ("10.1.0.1/16", "10.1.0.0", "10.1.0.0/33", "10.1.0.0/016", "10.1.0.0/+16", "10.1.0.0/", "10.1/16", "010.1.0.0/16",
                    "10.1.0.0/255.255.0.0", "10.1.0.0/16 ", "::/129", "2001:DB8::/32", "2001:db8:0::/32", "2001:db8::1/32", "fe80::%1/64",
                    "::ffff:0:0/96", "::ffff:10.1.0.0/112", "::ffff:a01:0/112", "", None, 1):  # fmt: skip
            self.bad({"cidr": bad})


SPECIMENS = [
    {"exact": "a"}, {"exact": 1}, {"exact": True}, {"one_of": []}, {"one_of": ["a", 1]}, {"range": {"min": 1}}, {"range": {"max": 9}},
    {"range": {"min": 1, "max": 1}}, {"prefix": "a"}, {"prefix": "/"}, {"subpath": "/"}, {"subpath": "/a"}, {"cidr": "0.0.0.0/0"},
    {"cidr": "::/0"}, {"cidr": "10.0.0.1/32"},
]  # fmt: skip


class Laws(unittest.TestCase):
    """What must hold of the rules as a whole, tried on a world small enough to try all of it."""

    @classmethod
    def setUpClass(cls):
        r = random.Random(7)
        written = SPECIMENS + [pairs.small_constraint(r) for _ in range(150)]
        cls.constraints = list(dict.fromkeys(constraint_of(c) for c in written))
        plain = pairs.SMALL_VALUES + ["a", "ab", "/a/c", "10.0.0.3", "10.0.0.4", "2001:db8::1", "2001:db8::2", "::", 4, 9, 10, -1]
        cls.values = [Value({bool: "boolean", int: "integer", str: "text"}[type(v)], v) for v in plain]

    def test_each_is_within_itself(self):
        for c in self.constraints:
            self.assertTrue(within(c, c), c)

    def test_what_is_within_admits_no_value_that_the_other_does_not(self):
        for a, b in itertools.product(self.constraints, repeat=2):
            if within(a, b):
                for value in self.values:
                    self.assertTrue(b.admits(value) or not a.admits(value), (a, b, value))

    def test_a_grandchild_is_within_the_grandparent(self):
        for a, b in itertools.product(self.constraints, repeat=2):
            if within(a, b):
                for c in self.constraints:
                    self.assertTrue(within(a, c) or not within(b, c), (a, b, c))


class Generator(unittest.TestCase):
    def test_the_same_seed_gives_the_same_pairs(self):
        one, two, other = ([json.dumps(p) for p, _, _ in pairs.generate(150, seed)] for seed in (3, 3, 4))
        self.assertEqual(one, two)
        self.assertNotEqual(one, other)

    def test_pairs_have_the_documented_form(self):
        for p, _, _ in pairs.generate(300, 5):
            self.assertEqual(sorted(p), ["child", "distance", "expect", "now", "parent"])
            self.assertEqual(sorted(p["parent"]), ["chain", "deadline", "grant", "hop", "max_hops", "may_act", "state"])
            self.assertEqual(sorted(p["child"]), ["caller", "deadline", "grant", "max_hops"])
            self.assertEqual(len(p["parent"]["chain"]), p["parent"]["hop"] + 1)
            self.assertEqual(judge_text(json.dumps(p)), p["expect"])
            if p["distance"] == "legitimate":
                self.assertEqual(p["expect"], {"verdict": "allowed"})
            if p["expect"]["verdict"] != "invalid":
                grant_of(p["parent"]["grant"])

    def test_its_addresses_are_written_as_rfc_5952_says(self):
        for number, text in (
            (0, "::"),
            (1, "::1"),
            (0x20010DB8 << 96, "2001:db8::"),
            (0x20010DB8000000010000000000000001, "2001:db8:0:1::1"),
            (0x20010DB8000000000001000000000001, "2001:db8::1:0:0:1"),
            (0x20010DB8000000010001000100010001, "2001:db8:0:1:1:1:1:1"),
        ):
            self.assertEqual(pairs.v6(number), text)


if __name__ == "__main__":
    unittest.main()
