//! `docs/conformance.md`: which test shows which row of the SPIFFE standards.
//!
//! ```text
//! tests/conformance/rows.txt: rows, excuses ─┐
//!                                            ├─> every row shown or excused, and not both ─> docs/conformance.md
//! the workspace's sources: /// Rows: ID-1. ──┘
//! ```
//!
//! A marker stands directly above the test that asserts what the row says, and every problem is reported at once. Inside a test, `// rows: ID-1`
//! says which lines assert it; the marker above must name it too, so that no such comment is left out of the document. Sources are read line
//! by line and not parsed: markers and attributes are whole lines of their own, and `cargo fmt` keeps them so.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::{hold, read, repository};

const ROWS: &str = "tests/conformance/rows.txt";
/// A test's function follows its first attribute within so many lines of further attributes and comments.
const TO_THE_FUNCTION: usize = 20;

/// One requirement.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    id: String,
    level: String,
    requirement: String,
    /// `not met: why` or `later: where`.
    excuse: Option<String>,
}

/// What the list consists of, in its order.
#[derive(Debug, PartialEq, Eq)]
enum Item {
    Section(String),
    Row(Row),
}

/// A test that names rows.
#[derive(Debug, PartialEq, Eq)]
struct Marked {
    file: String,
    test: String,
    rows: Vec<String>,
}

#[test]
fn every_row_of_the_standard_is_shown_by_a_test_or_says_why_not() {
    let (items, mut problems) = read_list(&read(ROWS));
    let mut sources = Vec::new();
    rust_files(&repository(), &mut sources);
    let mut marked = Vec::new();
    for path in sources {
        let file = path.strip_prefix(repository()).unwrap().display().to_string();
        let (found, wrong) = read_source(&file, &fs::read_to_string(&path).unwrap());
        marked.extend(found);
        problems.extend(wrong);
    }
    let (document, wrong) = compose(&items, &marked);
    problems.extend(wrong);
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
    hold("docs/conformance.md", &document);
}

/// Every Rust source below a directory that is ours, in order.
fn rust_files(directory: &Path, found: &mut Vec<std::path::PathBuf>) {
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_symlink() || name == "target" || name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The list, and what is wrong with it.
fn read_list(text: &str) -> (Vec<Item>, Vec<String>) {
    let (mut items, mut problems) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        let mut wrong = |what: &str| problems.push(format!("{ROWS}:{number}: {what}: {line}"));
        if let Some(section) = line.strip_prefix("## ") {
            items.push(Item::Section(section.to_owned()));
        } else if let Some(excuse) = line.strip_prefix("  ") {
            let reason = excuse.strip_prefix("not met: ").or_else(|| excuse.strip_prefix("later: "));
            match items.last_mut() {
                Some(Item::Row(row)) if row.excuse.is_none() && reason.is_some_and(|why| !why.is_empty()) => {
                    row.excuse = Some(excuse.to_owned());
                }
                _ => wrong("neither `not met: why` nor `later: where` once below a row"),
            }
        } else if !line.is_empty() && !line.starts_with('#') {
            match line.split(" | ").collect::<Vec<_>>().as_slice() {
                [id, level, requirement] if is_row_id(id) => items.push(Item::Row(Row {
                    id: (*id).to_owned(),
                    level: (*level).to_owned(),
                    requirement: (*requirement).to_owned(),
                    excuse: None,
                })),
                _ => wrong("not `ID-1 | level | requirement`"),
            }
        }
    }
    (items, problems)
}

/// Letters, a dash, a number.
fn is_row_id(text: &str) -> bool {
    let letters_and_number = |(letters, number): (&str, &str)| {
        !letters.is_empty()
            && letters.bytes().all(|byte| byte.is_ascii_uppercase())
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    text.split_once('-').is_some_and(letters_and_number)
}

/// The marked tests of a source file, and what is wrong with its markers.
fn read_source(file: &str, source: &str) -> (Vec<Marked>, Vec<String>) {
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let (mut marked, mut problems) = (Vec::<Marked>::new(), Vec::new());
    for (at, line) in lines.iter().enumerate() {
        let test = marked.last().map(|last| &last.test);
        let above: Vec<_> = marked.iter().filter(|it| Some(&it.test) == test).flat_map(|it| &it.rows).collect();
        if let Some(row) = rows_inside(line).into_iter().find(|row| above.iter().all(|above| above != row)) {
            problems.push(format!("{file}:{}: the marker above this test does not name {row}: {line}", at + 1));
        }
        let Some(rows) = marker(line) else { continue };
        let read = rows.and_then(|rows| Ok((rows, test_below(&lines[at + 1..])?)));
        match read {
            Ok((rows, test)) => marked.push(Marked { file: file.to_owned(), test, rows }),
            Err(what) => problems.push(format!("{file}:{}: {what}: {line}", at + 1)),
        }
    }
    (marked, problems)
}

/// The rows of a line that is a marker, or is meant to be one.
fn marker(line: &str) -> Option<Result<Vec<String>, &'static str>> {
    let text = line.strip_prefix("///")?.trim_start();
    let is_meant = text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("rows:"));
    is_meant.then(|| {
        let list = line.strip_prefix("/// Rows: ").and_then(|list| list.strip_suffix('.'));
        let rows: Vec<_> = list.into_iter().flat_map(|list| list.split(", ")).map(str::to_owned).collect();
        let is_good = !rows.is_empty() && rows.iter().all(|row| is_row_id(row));
        if is_good { Ok(rows) } else { Err("a marker is written `/// Rows: ID-1, ID-2.`") }
    })
}

/// The rows of a comment inside a test. What is no row there is an explanation.
fn rows_inside(line: &str) -> Vec<&str> {
    let list = line.strip_prefix("// rows: ").into_iter().flat_map(|list| list.split(", "));
    list.filter(|row| is_row_id(row)).collect()
}

/// The name of the test that a marker stands above.
fn test_below(lines: &[&str]) -> Result<String, &'static str> {
    let mut is_test = false;
    for line in lines.iter().take(TO_THE_FUNCTION) {
        if *line == "#[test]" || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if line.starts_with("#[ignore") {
            return Err("a marker stands above a test that is not run");
        } else if !is_test && !line.starts_with("///") && !line.starts_with("#[") {
            break;
        } else if let Some((before, after)) = line.split_once("fn ")
            && matches!(before.trim(), "" | "async" | "pub" | "pub async")
        {
            return after.split(['(', '<']).next().map(str::to_owned).ok_or("a marker stands above no test");
        }
    }
    Err("a marker stands above no test")
}

/// The document, and what contradicts itself.
fn compose(items: &[Item], marked: &[Marked]) -> (String, Vec<String>) {
    let mut problems = Vec::new();
    let mut shown: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let known: Vec<_> =
        items.iter().filter_map(|item| if let Item::Row(row) = item { Some(row) } else { None }).collect();
    for Marked { file, test, rows } in marked {
        for row in rows {
            if known.iter().all(|known| known.id != *row) {
                problems.push(format!("{file}: {test} names {row}, which {ROWS} does not have"));
            }
            let by = shown.entry(row.as_str()).or_default();
            let name = format!("`{test}` ({file})");
            if by.contains(&name) {
                problems.push(format!("{file}: {test} names {row} twice"));
            }
            by.push(name);
        }
    }
    let mut text = String::from(
        "# Conformance\n\nWhat the SPIFFE standards ask (spiffe/spiffe at 665a28f), row by row, and the tests that show it. Made from the tests: each names its \
         rows. A row is *shown* by tests that pass, *not met* and why, or *later* and where. Levels: M must, MN must not, S should, SN should not, \
         O may, D a decision of ours where the standards are silent or contradict each other.\n",
    );
    for (at, item) in items.iter().enumerate() {
        let row = match item {
            Item::Section(section) => {
                write!(text, "\n## {section}\n\n| row | level | requirement | state |\n|---|---|---|---|\n").unwrap();
                continue;
            }
            Item::Row(row) => row,
        };
        if items[..at].iter().any(|item| matches!(item, Item::Row(before) if before.id == row.id)) {
            problems.push(format!("{ROWS}: {} is there twice", row.id));
        }
        let state = match (shown.get(row.id.as_str()), &row.excuse) {
            (Some(by), None) => format!("shown: {}", by.join(", ")),
            (None, Some(excuse)) => excuse.clone(),
            (Some(by), Some(excuse)) => {
                problems.push(format!("{} is shown by {}, and {ROWS} says `{excuse}`", row.id, by.join(", ")));
                continue;
            }
            (None, None) => {
                problems.push(format!("{} is shown by no test, and {ROWS} does not say why", row.id));
                continue;
            }
        };
        writeln!(text, "| {} | {} | {} | {state} |", row.id, row.level, row.requirement).unwrap();
    }
    (text, problems)
}

#[test]
fn a_marker_says_its_rows_and_stands_above_a_test() {
    let read = |source: &str| read_source("a.rs", source);
    let good = "\x20   /// Rows: ID-1, WA-60.\n    #[tokio::test(start_paused = true)]\n    // why\n    #[cfg(unix)]\n    async fn name() {";
    let marked = Marked { file: "a.rs".into(), test: "name".into(), rows: vec!["ID-1".into(), "WA-60".into()] };
    assert_eq!(read(good), (vec![marked], Vec::new()));
    let (two, problems) =
        read("/// Rows: ID-1.\n/// Rows: ID-2.\n/// More.\n#[test]\nfn name() {\n// rows: ID-2, decision K3\n");
    assert_eq!((two.len(), problems.len()), (2, 0));
    for unnamed in ["/// Rows: ID-1.\n#[test]\nfn name() {\n// rows: ID-1, ID-2\n", "fn name() {\n// rows: ID-2\n"] {
        let (_, problems) = read(unnamed);
        assert!(problems.len() == 1 && problems[0].contains("does not name ID-2"), "{problems:?}");
    }
    for (bad, says) in [
        ("/// Rows: ID-1, WA-60\n#[test]\nfn name() {}", "is written"),
        ("/// Rows: ID-1 WA-60.\n#[test]\nfn name() {}", "is written"),
        ("/// Rows: .\n#[test]\nfn name() {}", "is written"),
        ("/// rows: ID-1.\n#[test]\nfn name() {}", "is written"),
        ("///Rows: ID-1.\n#[test]\nfn name() {}", "is written"),
        ("/// Rows: ID-1.\nfn name() {}", "no test"),
        ("/// Rows: ID-1.\n\n#[test]\nfn name() {}", "no test"),
        ("/// Rows: ID-1.\nstruct Name;\n#[test]\nfn name() {}", "no test"),
        ("/// Rows: ID-1.\n#[test]\nstruct Name;", "no test"),
        ("/// Rows: ID-1.", "no test"),
        ("/// Rows: ID-1.\n#[test]\n#[ignore = \"slow\"]\nfn name() {}", "not run"),
    ] {
        let (marked, problems) = read(bad);
        assert!(marked.is_empty() && problems.len() == 1 && problems[0].contains(says), "{bad}: {problems:?}");
    }
}

#[test]
fn a_row_is_shown_or_excused_and_nothing_else() {
    let composed = |list: &str, rows: &[&str]| {
        let (items, mut problems) = read_list(list);
        let rows = rows.iter().map(ToString::to_string).collect();
        let (text, more) = compose(&items, &[Marked { file: "a.rs".into(), test: "name".into(), rows }]);
        problems.extend(more);
        (text, problems)
    };
    let (text, problems) =
        composed("## A\nA-1 | M | a\nA-2 | S | b\n  not met: it rains\nA-3 | D | c\n  later: there", &["A-1"]);
    assert_eq!(problems, Vec::<String>::new());
    for line in [
        "| A-1 | M | a | shown: `name` (a.rs) |",
        "| A-2 | S | b | not met: it rains |",
        "| A-3 | D | c | later: there |",
    ] {
        assert!(text.lines().any(|found| found == line), "{text}");
    }
    for (list, rows, says) in [
        ("A-1 | M | a", &["A-1", "A-2"][..], "names A-2, which"),
        ("A-1 | M | a", &["A-1", "A-1"], "names A-1 twice"),
        ("A-1 | M | a\n  later: there", &["A-1"], "says `later: there`"),
        ("A-1 | M | a\nA-2 | M | b", &["A-1"], "A-2 is shown by no test"),
        ("A-1 | M | a\nA-1 | M | b", &["A-1"], "A-1 is there twice"),
        ("A-1 | M | a\nA-2 | M | b\n  because", &["A-1", "A-2"], "neither"),
        ("A-1 | M | a\nA-2 | M | b\n  later: ", &["A-1", "A-2"], "neither"),
        ("A-1 | M | a\nA-2 | M | b\n  later: x\n  not met: y", &["A-1"], "neither"),
        ("  later: x\nA-1 | M | a", &["A-1"], "neither"),
        ("A-1 | M | a\nA-2", &["A-1"], "not `ID-1"),
        ("A-1 | M | a\nA-2 | M | b | c", &["A-1"], "not `ID-1"),
    ] {
        let (_, problems) = composed(list, rows);
        assert!(problems.len() == 1 && problems[0].contains(says), "{list}: {problems:?}");
    }
}
