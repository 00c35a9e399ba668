"""Mutation testing of one crate's sources by its own unit tests. Run by `tests/mutants`, which says what it is for.

All mutants are compiled into one test binary, each behind a switch that an environment variable turns on, so that a thousand of them cost a
build and not a thousand builds. Mutants that do not compile are left out. Each is then tried against the tests that reach it.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import tree_sitter
import tree_sitter_rust

LANGUAGE = tree_sitter.Language(tree_sitter_rust.language())
OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
BOUNDARY = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
OTHER = {"+": "-", "-": "+", "*": "+", "/": "*", "%": "/", "&": "|", "|": "&", "^": "|", "<<": ">>", ">>": "<<"}
INTEGERS = {"u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize"}
SWITCH = """
//! Which mutant is on: put here for mutation testing.
use std::sync::{LazyLock, Mutex, atomic::{AtomicBool, Ordering}};
static CHOSEN: LazyLock<usize> = LazyLock::new(|| {
    let chosen = std::env::var("MUTANT").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    if chosen != 0 {
        // The first failure is enough.
        std::panic::set_hook(Box::new(|_| std::process::exit(101)));
    }
    chosen
});
static TRACED: LazyLock<Option<Mutex<std::fs::File>>> = LazyLock::new(|| {
    Some(Mutex::new(std::fs::File::create(std::env::var_os("MUTANT_TRACE")?).unwrap()))
});
static SEEN: [AtomicBool; 10_000] = [const { AtomicBool::new(false) }; 10_000];
pub(crate) fn on(number: usize) -> bool {
    if let Some(file) = TRACED.as_ref()
        && !SEEN[number].swap(true, Ordering::Relaxed)
    {
        use std::io::Write as _;
        write!(file.lock().unwrap(), "{number}\\n").unwrap();
    }
    *CHOSEN == number
}
"""


class Mutant:
    def __init__(self, number, path, line, what):
        self.number, self.path, self.line, self.what = number, path, line, what

    def __str__(self):
        return f"{self.path}:{self.line}: {self.what}"


class Source:
    """One file, and its text with the mutants in it."""

    def __init__(self, path, name, mutants, left_out):
        self.name, self.mutants, self.left_out = name, mutants, left_out
        self.bytes = path.read_bytes()
        root = tree_sitter.Parser(LANGUAGE).parse(self.bytes).root_node
        self.text = self.render(root, False)

    def of(self, node):
        return self.bytes[node.start_byte : node.end_byte].decode()

    def switch(self, node, what):
        """The condition that turns a new mutant on; none where it did not compile."""
        key = (self.name, node.start_byte, node.end_byte, what)
        mutant = self.mutants.get(key)
        if mutant is None:
            mutant = self.mutants[key] = Mutant(len(self.mutants) + 1, self.name, node.start_point[0] + 1, what)
        return None if mutant.number in self.left_out else f"crate::mutant::on({mutant.number})"

    def render(self, node, is_const):
        kind = node.type
        if kind in ("line_comment", "block_comment", "attribute_item", "macro_invocation", "string_literal", "type_arguments", "array_type"):
            return self.of(node)
        if kind in ("mod_item", "impl_item", "function_item", "use_declaration") and self.is_left_alone(node):
            return self.of(node)
        if kind in ("const_item", "static_item") or (kind == "function_item" and self.is_const_fn(node)):
            is_const = True
        if is_const:
            return self.of(node)
        text = self.children(node, is_const)
        if kind == "function_item":
            return text
        if kind == "block" and node.parent.type == "function_item":
            return self.whole_function(node, text)
        if kind == "binary_expression":
            return self.binary(node, text)
        if kind == "compound_assignment_expr":
            return self.compound(node, text)
        if kind == "unary_expression" and self.of(node).startswith("!"):
            return self.flipped(node, text, "without `!`: " + self.short(node))
        if kind == "match_arm":
            return self.arm(node, text)
        if kind == "expression_statement":
            return self.statement(node, text)
        if kind in ("call_expression", "macro_invocation", "identifier", "field_expression") and self.is_condition(node):
            return self.flipped(node, text, "opposite of " + self.short(node))
        return text

    def children(self, node, is_const):
        if not node.children:
            return self.of(node)
        text, at = [], node.start_byte
        for child in node.children:
            text.append(self.bytes[at : child.start_byte].decode())
            text.append(self.render(child, is_const))
            at = child.end_byte
        return "".join(text) + self.bytes[at : node.end_byte].decode()

    def short(self, node):
        return " ".join(self.of(node).split())[:110].replace("|", "\\|")

    def is_left_alone(self, node):
        """Test code, and what is only for people to read."""
        before = node.prev_sibling
        while before is not None and before.type in ("attribute_item", "line_comment"):
            if before.type == "attribute_item" and "test" in self.of(before):
                return True
            before = before.prev_sibling
        head = self.of(node).split("{", 1)[0]
        return node.type == "impl_item" and re.search(r"\b(Debug|Display|Drop|Hash|Zeroize) for\b", head) is not None

    def is_const_fn(self, node):
        return " const fn" in " " + self.of(node).split("fn ", 1)[0] + "fn" or False

    def is_condition(self, node):
        parent = node.parent
        return parent is not None and parent.type == "if_expression" and parent.child_by_field_name("condition") == node

    def whole_function(self, node, text):
        function = node.parent
        name = self.of(function.child_by_field_name("name"))
        returned = function.child_by_field_name("return_type")
        lines = []
        for value in values(self.of(returned) if returned else "()"):
            on = self.switch(node, f"`{name}` returns {value}" if value != "()" else f"`{name}` does nothing")
            if on:
                lines.append(f"if {on} {{ return {value}; }}\n")
        return "{\n" + "".join(lines) + text[1:]

    def flipped(self, node, text, what):
        on = self.switch(node, what)
        return f"(({text}) ^ {on})" if on else text

    def binary(self, node, text):
        operator = self.of(node.child_by_field_name("operator"))
        left, right = (self.render(node.child_by_field_name(side), False) for side in ("left", "right"))
        if operator in ("&&", "||"):
            # By De Morgan, so that the operands are not written twice.
            on = self.switch(node, f"`{operator}` the other way in {self.short(node)}")
            return f"(((({left}) ^ {on}) {operator} (({right}) ^ {on})) ^ {on})" if on else text
        if operator in BOUNDARY:
            on = self.switch(node, f"`{BOUNDARY[operator]}` in {self.short(node)}")
            if on:
                text = f"(if {on} {{ {left} {BOUNDARY[operator]} {right} }} else {{ {text} }})"
        if operator in OPPOSITE:
            on = self.switch(node, f"`{OPPOSITE[operator]}` in {self.short(node)}")
            return f"(({text}) ^ {on})" if on else text
        if operator in OTHER:
            on = self.switch(node, f"`{OTHER[operator]}` in {self.short(node)}")
            return f"(if {on} {{ {left} {OTHER[operator]} {right} }} else {{ {text} }})" if on else text
        return text

    def compound(self, node, text):
        operator = self.of(node.child_by_field_name("operator"))
        other = {"+=": "-=", "-=": "+=", "|=": "&=", "&=": "|=", "*=": "+="}.get(operator)
        on = other and self.switch(node, f"`{other}` in {self.short(node)}")
        if not on:
            return text
        left, right = (self.render(node.child_by_field_name(side), False) for side in ("left", "right"))
        return f"(if {on} {{ {left} {other} {right} }} else {{ {text} }})"

    def arm(self, node, text):
        """An arm that is passed over, where a later one takes everything; a guard that always holds."""
        arms = [child for child in node.parent.children if child.type == "match_arm"]
        pattern = node.child_by_field_name("pattern")
        guard = pattern.child_by_field_name("condition")
        if guard is not None and guard.type in ("let_chain", "let_condition"):
            return text
        last = self.of(arms[-1].child_by_field_name("pattern"))
        is_open = re.fullmatch(r"_|_?[a-z][a-z_]*", last) is not None and node != arms[-1]
        never = is_open and self.switch(node, f"without the arm {self.short(pattern)}")
        always = guard is not None and self.switch(guard, f"always in the arm {self.short(pattern)}")
        if not never and not always:
            return text
        value = self.render(node.child_by_field_name("value"), False)
        bare = self.bytes[pattern.start_byte : (guard.start_byte if guard else pattern.end_byte)].decode()
        bare = bare.rstrip().removesuffix("if").rstrip()
        holds = [f"({self.render(guard, False)})"] if guard else []
        if always:
            holds = [f"({holds[0]} || {always})"]
        if never:
            holds.append(f"!{never}")
        tail = "," if text.rstrip().endswith(",") else ""
        return f"{bare} if {' && '.join(holds)} => {value}{tail}"

    def statement(self, node, text):
        inner = node.children[0].type
        if inner not in ("try_expression", "call_expression", "assignment_expression", "compound_assignment_expr"):
            return text
        on = self.switch(node, f"without {self.short(node)}")
        return f"if !{on} {{ {text} }}" if on else text


def values(kind):
    """What a function of this type could return instead."""
    kind = kind.strip()
    generic = re.fullmatch(r"(?:[\w:]+::)?(Result|Option)<(.*)>", kind, re.DOTALL)
    if kind == "()":
        return ["()"]
    if kind == "bool":
        return ["true", "false"]
    if kind in INTEGERS:
        return ["0", "1"]
    if generic and generic[1] == "Option":
        return ["None"] + [f"Some({value})" for value in values(generic[2])]
    if generic:
        return [f"Ok({value})" for value in values(split(generic[2])[0])]
    if kind.startswith("("):
        return [f"({', '.join(values(part)[0] for part in split(kind[1:-1]))})"]
    if re.fullmatch(r"&('\w+ )?str", kind):
        return ['""', '"xyzzy"']
    if re.fullmatch(r"&('\w+ )?\[.*\]", kind):
        return ["&[]"]
    if kind.startswith(("impl ", "&", "dyn ", "!")):
        return []
    return ["Default::default()"]


def split(text):
    """By the commas that are in no brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += letter in "<([{"
        depth -= letter in ">)]}"
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


class Crate:
    """A copy of the workspace, in which one crate has mutants."""

    def __init__(self, package, directory, files, work):
        self.package, self.directory, self.files = package, directory, files
        self.root = pathlib.Path(__file__).resolve().parents[2]
        self.tree = work / "tree"
        self.mutants, self.left_out = {}, set()

    def copy(self):
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=self.root, check=True, capture_output=True).stdout
        for name in filter(None, listed.decode().split("\0")):
            source, to = self.root / name, self.tree / name
            if not source.is_file() or (to.is_file() and to.read_bytes() == source.read_bytes()):
                continue
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, to)

    def write(self):
        library = self.tree / self.directory / "src/lib.rs"
        text = (self.root / self.directory / "src/lib.rs").read_text()
        put(library, text + "\n#[allow(warnings, clippy::all)]\nmod mutant;\n")
        put(library.parent / "mutant.rs", SWITCH.lstrip())
        for name in self.files:
            put(self.tree / name, Source(self.root / name, name, self.mutants, self.left_out).text)

    def cargo(self, *arguments):
        command = ["cargo", *arguments, "-p", self.package, "--lib", "--all-features", "--locked", "--message-format=json", "--quiet"]
        done = subprocess.run(command, cwd=self.tree, capture_output=True, text=True)
        messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        return done, messages

    def build(self):
        """Until everything compiles: what stands where an error is, is left out."""
        while True:
            self.write()
            done, messages = self.cargo("test", "--no-run")
            if done.returncode == 0:
                made = [m["executable"] for m in messages if m.get("executable") and m["profile"]["test"]]
                return made[-1]
            before = len(self.left_out)
            for message in messages:
                if message.get("reason") == "compiler-message" and message["message"]["level"] == "error":
                    self.leave_out(message["message"])
            print(f"  {len(self.left_out)} mutants do not compile", file=sys.stderr)
            if len(self.left_out) == before:
                sys.exit(done.stderr + "\n".join(m["message"]["rendered"] for m in messages if "message" in m and m["message"]["level"] == "error"))

    def leave_out(self, message):
        for span in message["spans"]:
            if not span["is_primary"]:
                continue
            lines = (self.tree / span["file_name"]).read_text().splitlines()
            part = lines[span["line_start"] - 1 : span["line_end"]]
            if span["line_start"] == span["line_end"]:
                exact = numbers(part[0][span["column_start"] - 1 : span["column_end"] - 1])
            else:
                exact = numbers("\n".join(part))
            found = exact or numbers("\n".join(part))
            if not found:
                found = numbers("\n".join(lines[max(0, span["line_start"] - 4) : span["line_end"] + 3]))
            self.left_out.update(found)

    def alive(self):
        return [mutant for mutant in self.mutants.values() if mutant.number not in self.left_out]


def put(path, text):
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)


def numbers(text):
    return {int(number) for number in re.findall(r"mutant::on\((\d+)\)", text)}


def reach(binary, directory, work, skip):
    """Of each test, the mutants that it reaches, and how long it takes."""
    listed = subprocess.run([binary, "--list", "--format", "terse"], cwd=directory, capture_output=True, text=True, check=True)
    tests = [line.removesuffix(": test") for line in listed.stdout.splitlines() if line.endswith(": test")]
    tests = [test for test in tests if not any(word in test for word in skip)]

    def run(test):
        trace = work / "traces" / re.sub(r"\W", "_", test)
        began = time.monotonic()
        done = subprocess.run(
            [binary, "--exact", test], cwd=directory, env=os.environ | {"MUTANT_TRACE": str(trace)}, capture_output=True, text=True, timeout=600
        )
        if done.returncode != 0:
            print(f"  {test} fails without any mutant, and is left out", file=sys.stderr)
            return test, set(), 0.0
        reached = {int(line) for line in trace.read_text().split()} if trace.exists() else set()
        return test, reached, time.monotonic() - began

    (work / "traces").mkdir(exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        return list(pool.map(run, tests))


def attempt(binary, directory, mutant, reached):
    """How a mutant fares: killed, killed by time, or surviving."""
    mine = sorted((seconds, test) for test, found, seconds in reached if mutant.number in found)
    # The quick ones alone first: most mutants do not outlive them.
    for batch in (mine[:12], mine[12:]):
        if not batch:
            continue
        limit = 30 + 4 * sum(seconds for seconds, _ in batch)
        command = [binary, "--exact", *(test for _, test in batch)]
        try:
            done = subprocess.run(command, cwd=directory, env=os.environ | {"MUTANT": str(mutant.number)}, capture_output=True, timeout=limit)
        except subprocess.TimeoutExpired:
            return "time"
        if done.returncode != 0:
            return "killed"
    return "survives" if mine else "unreached"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="where the copy and its build go")
    parser.add_argument("--skip-test", action="append", default=[], help="tests with this in their name are not run")
    parser.add_argument("--only", help="only mutants with this in their description are tried")
    parser.add_argument("package")
    parser.add_argument("directory")
    parser.add_argument("files", nargs="+")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    # The tests run elsewhere.
    options.work = options.work.resolve()
    crate = Crate(options.package, options.directory, options.files, options.work)
    crate.copy()
    binary = crate.build()
    directory = crate.tree / crate.directory
    reached = reach(binary, directory, options.work, options.skip_test)
    if not any(found for _, found, _ in reached):
        sys.exit("no test reaches a mutant: the tests do not run here, and nothing was shown")
    alive = [mutant for mutant in crate.alive() if not options.only or options.only in str(mutant)]
    print(f"  {len(alive)} mutants, {len(reached)} tests", file=sys.stderr)
    table = collections.defaultdict(collections.Counter)
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        for mutant, fate in zip(alive, pool.map(lambda it: attempt(binary, directory, it, reached), alive)):
            table[mutant.path][fate] += 1
            if fate in ("survives", "unreached"):
                print(f"{fate}: {mutant}", flush=True)
    for path in sorted(table):
        counts = table[path]
        killed = counts["killed"] + counts["time"]
        print(f"| {path} | {sum(counts.values())} | {killed} | {counts['survives'] + counts['unreached']} |", flush=True)


JOBS = int(os.environ.get("JOBS", os.cpu_count() or 1))

if __name__ == "__main__":
    main()
