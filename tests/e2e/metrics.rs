//! What the daemons show at `/metrics` is what `docs/metrics.md` describes, no less and no more.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};

use mayfly_rig::{Rig, eventually, http_get, mayfly};

use crate::attacks::x509_serial;

/// A metric as the document has it, or as a scrape shows it.
#[derive(Debug, PartialEq, Eq, Default)]
struct Shown {
    kind: String,
    unit: String,
    help: String,
    labels: BTreeSet<String>,
}

#[test]
fn every_series_is_documented_and_every_documented_series_is_there() {
    let rig = Rig::started(&[]);
    rig.apply(&rig.entry("workload", ""));
    // Something of everything that is counted by label.
    eventually("an X.509-SVID", 20, || x509_serial(&rig, "a"));
    let jwt = Command::new(mayfly())
        .args(["svid", "jwt", "fetch", "--audience", "metrics"])
        .env("SPIFFE_ENDPOINT_SOCKET", rig.endpoint("a"))
        .output()
        .unwrap();
    assert!(jwt.status.success(), "{}", String::from_utf8_lossy(&jwt.stderr));
    refused_call(&rig);
    asked_for_the_bundle(&rig);

    let issuer = eventually("the issuer has counted everything", 20, || {
        let text = http_get(&format!("{}:9464", rig.ip()), "/metrics")?;
        ["issued_total{", "refused_total{", "web_answers_total{"].iter().all(|part| text.contains(part)).then_some(text)
    });
    let documented = documented();
    for (prefix, scraped) in [("mayfly_issuer", scraped(&issuer)), ("mayfly_agent", scraped(&rig.agent_metrics("a")))] {
        let described: BTreeMap<_, _> = documented.iter().filter(|(name, _)| name.starts_with(prefix)).collect();
        assert!(described.len() > 5, "{described:#?}");
        assert_eq!(scraped.iter().collect::<BTreeMap<_, _>>(), described, "shown, and described");
    }
}

/// A node that the issuer does not know asks to be one.
fn refused_call(rig: &Rig) {
    let pin = rig.json(&["health"])["issuer"]["root_spki_sha256"].as_str().unwrap().to_owned();
    let file = |name: &str, content: String| {
        let path = rig.dir().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let token = file("unknown-token", format!("unknown.{pin}"));
    let dir = rig.dir().join("unknown").display().to_string();
    let config = file(
        "unknown.toml",
        format!(
            "trust_domain = \"{}\"\nstate_dir = \"{dir}\"\nruntime_dir = \"{dir}/run\"\njoin_token_file = \"{token}\"\nissuer.addresses = [\"{}\"]\nmetrics.listen = \"{}:9999\"\n",
            rig.trust_domain,
            rig.issuer_address(),
            rig.ip()
        ),
    );
    let mut command = Command::new(mayfly());
    command.args(["agent", "run", "--config", &config]);
    let _agent = mayfly_rig::Daemon::start(command, rig.dir().join("unknown.log"));
    eventually("the issuer refuses the token", 20, || {
        http_get(&format!("{}:9464", rig.ip()), "/metrics")?.contains("reason=\"join_token_unknown\"").then_some(())
    });
}

fn asked_for_the_bundle(rig: &Rig) {
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &rig.web_address()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", rig.trust_domain);
    client.stdin.as_mut().unwrap().write_all(request.as_bytes()).unwrap();
    let answer = client.wait_with_output().unwrap();
    assert!(answer.stdout.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer.stdout));
}

/// By name of series.
fn documented() -> BTreeMap<String, Shown> {
    let document = std::fs::read_to_string(mayfly_rig::repository().join("docs/metrics.md")).unwrap();
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let labels =
            cells[3].split("; ").filter_map(|label| Some(label.split_once("`: ")?.0.trim_matches('`').to_owned()));
        let shown = Shown {
            kind: cells[1].to_owned(),
            unit: cells[2].to_owned(),
            help: cells[4].to_owned(),
            labels: labels.collect(),
        };
        assert!(cells[5].len() > 20, "what to do: {row}");
        (cells[0].trim_matches('`').to_owned(), shown)
    })
    .collect()
}

/// By name of series; what has no sample is not there.
fn scraped(answer: &str) -> BTreeMap<String, Shown> {
    let (mut families, mut series) = (BTreeMap::<String, Shown>::new(), BTreeMap::new());
    for line in answer.lines().filter(|line| line.starts_with("# ") || line.starts_with("mayfly_")) {
        if let Some(said) = line.strip_prefix("# ") {
            let mut words = said.splitn(3, ' ').map(str::to_owned);
            let (Some(what), Some(name), value) = (words.next(), words.next(), words.next()) else { continue };
            let family = families.entry(name).or_default();
            match what.as_str() {
                "TYPE" => family.kind = value.unwrap(),
                "UNIT" => family.unit = value.unwrap(),
                "HELP" => value.unwrap().trim_end_matches('.').clone_into(&mut family.help),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (name, labels) = line.split_once(['{', ' ']).unwrap();
        let labels = labels.split_once('}').map_or("", |(labels, _)| labels);
        let labels = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
        let family = families.get(name.trim_end_matches("_total")).unwrap_or_else(|| panic!("not described: {line}"));
        let shown: &mut Shown = series.entry(name.to_owned()).or_insert_with(|| Shown {
            kind: family.kind.clone(),
            unit: family.unit.clone(),
            help: family.help.clone(),
            labels: BTreeSet::new(),
        });
        shown.labels.extend(labels);
    }
    series
}
