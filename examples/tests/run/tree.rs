//! One piece of work, handed on three times and to twenty agents, each of which calls a service: it stops, goes on and ends for all
//! of them at once, for a service that is told and for a validator that reads nothing but the status list.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::read::ZlibDecoder;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use mayfly_rig::mayfly;
use serde_json::Value;

use super::{AXUM, Command, FILES, Output, Rig, Stdio, eventually, service};

const HOST: &str = "issuer.example.org";
/// Sub-agents below the second one.
const LAST: usize = 18;
/// What a status list may be behind.
const BEHIND: Duration = Duration::from_secs(15);

/// An agent's task: its token, and the files of the certificate that the token is bound to.
struct Agent {
    directory: PathBuf,
    task: String,
    token: String,
}

fn out(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

impl Agent {
    /// Begins a task, or a part of another agent's.
    fn new(rig: &Rig, name: &str, spiffe_id: &str, above: Option<&Self>) -> Self {
        let directory = rig.dir().join(name);
        let mut command = Command::new(mayfly());
        command.args(["--output", "json", "task", if above.is_some() { "delegate" } else { "begin" }]);
        command.args(["--purpose", "a report", "--audience", FILES, "--scope", "read", "--delegable", FILES]);
        command.args(["--spiffe-id", spiffe_id, "--write"]).arg(&directory);
        if let Some(above) = above {
            command.arg("--parent-token-file").arg(above.directory.join("token"));
        }
        command.env("SPIFFE_ENDPOINT_SOCKET", rig.endpoint("a"));
        let begun = eventually("the task is begun", 20, || {
            let output = out(&mut command);
            output.status.success().then(|| json(&output))
        });
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Self { directory, task: text(&begun["task"]["id"]), token: text(&begun["token"]) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Calls the service: what it answers, as status, and head and body. Who the service is, is not what this is about: it has no host name.
    fn call(&self, address: &str) -> (String, String) {
        let mut command = Command::new("curl");
        command.args(["--silent", "--include", "--insecure", "--write-out", "\n%{http_code}", "--max-time", "20"]);
        command.arg("--cert").arg(self.file("svid.pem")).arg("--key").arg(self.file("key.pem"));
        command.args(["--header", &format!("authorization: Bearer {}", self.token)]);
        let output = out(command.arg(format!("https://{address}/pages/1")));
        let said = String::from_utf8(output.stdout).unwrap();
        let (answer, status) = said.rsplit_once('\n').unwrap();
        (status.to_owned(), answer.to_owned())
    }

    /// Where its task stands in the status lists: which list, and at which place.
    fn status(&self) -> (String, usize) {
        let claims: Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(self.token.split('.').nth(1).unwrap()).unwrap()).unwrap();
        let entry = &claims["status"]["status_list"];
        (entry["uri"].as_str().unwrap().to_owned(), usize::try_from(entry["idx"].as_u64().unwrap()).unwrap())
    }
}

/// What anybody may read over HTTPS, from the issuer whose certificate the bundle verifies for its host name.
fn get(rig: &Rig, bundle: &Path, url: &str) -> String {
    let path = url.strip_prefix(&format!("https://{HOST}")).unwrap();
    let address = rig.web_address();
    let (ip, port) = address.rsplit_once(':').unwrap();
    let mut command = Command::new("curl");
    command.args(["--silent", "--fail", "--show-error", "--max-time", "20", "--cacert"]).arg(bundle);
    command.args(["--resolve", &format!("{HOST}:{port}:{ip}"), &format!("https://{HOST}:{port}{path}")]);
    let output = out(&mut command);
    assert!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A validator that knows the published keys and the status list, and hears nothing.
struct Reader<'a> {
    rig: &'a Rig,
    bundle: PathBuf,
    keys: JwkSet,
}

impl<'a> Reader<'a> {
    fn new(rig: &'a Rig, bundle: PathBuf) -> Self {
        let published = |url: &str| get(rig, &bundle, url);
        let metadata: Value =
            serde_json::from_str(&published(&format!("https://{HOST}/.well-known/oauth-authorization-server/task")))
                .unwrap();
        let keys = serde_json::from_str(&published(metadata["status_list_jwks_uri"].as_str().unwrap())).unwrap();
        Self { rig, bundle, keys }
    }

    /// The two bits of these agents' tasks: 0 valid, 1 invalid, 2 suspended.
    fn bits(&self, agents: &[Agent]) -> Vec<u8> {
        let places: Vec<_> = agents.iter().map(Agent::status).collect();
        let uri = &places[0].0;
        assert!(places.iter().all(|(list, _)| list == uri), "a list has room for so few");
        let list = get(self.rig, &self.bundle, uri);
        let header = decode_header(&list).unwrap();
        assert_eq!(header.typ.as_deref(), Some("statuslist+jwt"));
        let key = DecodingKey::from_jwk(self.keys.find(&header.kid.unwrap()).unwrap()).unwrap();
        let mut rules = Validation::new(Algorithm::ES256);
        rules.sub = Some(uri.clone());
        let claims = decode::<Value>(&list, &key, &rules).unwrap().claims;
        let compressed = URL_SAFE_NO_PAD.decode(claims["status_list"]["lst"].as_str().unwrap()).unwrap();
        let mut bytes = Vec::new();
        ZlibDecoder::new(&*compressed).read_to_end(&mut bytes).unwrap();
        places.iter().map(|(_, index)| bytes[index / 4] >> (index % 4 * 2) & 3).collect()
    }

    /// Waits until the list says this of each of them; how long that took.
    fn hears(&self, agents: &[Agent], bits: u8) -> Duration {
        let asked = Instant::now();
        eventually("the status list says it", 60, || self.bits(agents).iter().all(|is| *is == bits).then_some(()));
        asked.elapsed()
    }
}

#[test]
fn three_hops_and_twenty_sub_agents_call_a_service_until_the_first_task_is_over() {
    let url = format!("\"https://{HOST}\"");
    let rig = Rig::started(&[("web.public_url", &*url)]);
    let task =
        format!("    task: {{audiences: [\"{FILES}\"], scopes: [read], delegable: [\"{FILES}\"], deadline: 10m}}\n");
    let service_only = format!(", \"unix:path:{AXUM}\"");
    let files = rig.entry("files", &service_only) + &format!("    serves: [\"{FILES}\"]\n");
    rig.apply(&(files + &rig.entry("planner", "") + &task + &rig.entry("worker", "") + &task));
    let (_service, address) = service(&rig, AXUM);

    let (planner, worker) = (super::id(&rig, "planner"), super::id(&rig, "worker"));
    let mut agents = vec![Agent::new(&rig, "agent-0", &planner, None)];
    for hop in 1..=2 {
        let next = Agent::new(&rig, &format!("agent-{hop}"), &worker, agents.last());
        agents.push(next);
    }
    for n in 3..3 + LAST {
        let next = Agent::new(&rig, &format!("agent-{n}"), &worker, Some(&agents[2]));
        agents.push(next);
    }
    let reader = Reader::new(&rig, agents[0].file("bundle.pem"));

    // All at once.
    let calls = || -> Vec<(String, String)> {
        std::thread::scope(|scope| {
            let calls: Vec<_> = agents.iter().map(|agent| scope.spawn(|| agent.call(&address))).collect();
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        })
    };
    for (n, (agent, (status, answer))) in agents.iter().zip(calls()).enumerate() {
        let who = if n == 0 { &planner } else { &worker };
        let expected = format!("page 1 for {who}, task {}, hop {}", agent.task, n.min(3));
        assert!(status == "200" && answer.ends_with(&expected), "{status} {answer}");
    }
    assert!(reader.bits(&agents).iter().all(|bits| *bits == 0));
    let root = &agents[0].task;
    for (verb, status, bits, said) in
        [("suspend", "401", 2, "suspended"), ("resume", "200", 0, "page 1"), ("complete", "401", 1, "ended")]
    {
        let done = if verb == "complete" {
            out(Command::new(mayfly()).args(["task", verb, root]).env("SPIFFE_ENDPOINT_SOCKET", rig.endpoint("a")))
        } else {
            rig.run(&["task", verb, root])
        };
        assert!(done.status.success(), "{verb}: {}", String::from_utf8_lossy(&done.stderr));
        eventually("the service is told", 20, || (agents[LAST].call(&address).0 == status).then_some(()));
        for (agent, (told, answer)) in agents.iter().zip(calls()) {
            assert!(told == status && answer.contains(said), "{}: {told} {answer}", agent.task);
        }
        let after = reader.hears(&agents, bits);
        println!("{verb}: a validator that knows the status list only hears of it after {} ms", after.as_millis());
        assert!(after < BEHIND, "{after:?}");
    }
}
