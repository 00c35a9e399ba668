//! `mayfly task begin` and `delegate`.

use std::path::{Path, PathBuf};
use std::string::FromUtf8Error;

use mayfly_proto::task as wire;
use mayfly_sdk::task::Grant;
use mayfly_sdk::{Refusal, SpiffeId, Ttl};
use serde_json::{Map, Value};

use super::Target;
use super::shown::{Begun, TaskShown, granted};
use crate::cmd::entry::read_document;
use crate::endpoint::EndpointArgs;
use crate::failure::Failure;
use crate::output::{Out, time};

#[derive(Debug, clap::Args)]
pub(crate) struct Begin {
    /// File with the token of the user on whose behalf it is, from an identity provider that the issuer knows; - for standard input
    #[arg(long, value_name = "FILE")]
    subject_token_file: Option<PathBuf>,
    #[command(flatten)]
    asked: Asked,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Delegate {
    /// File with the token of the task above; - for standard input
    #[arg(long, value_name = "FILE")]
    parent_token_file: PathBuf,
    #[command(flatten)]
    asked: Asked,
}

/// What a task is to be.
#[derive(Debug, clap::Args)]
struct Asked {
    /// What for, in words for people; they go into the ledger
    #[arg(long, value_name = "TEXT")]
    purpose: String,
    #[command(flatten)]
    grant: GrantArgs,
    /// How long it may last, such as 10m [default: as the entry and the issuer say; for delegate, as long as the task above]
    #[arg(long, value_name = "TTL")]
    deadline: Option<Ttl>,
    /// How deep it may be delegated [default: as the entry says]
    #[arg(long, value_name = "N")]
    max_hops: Option<u8>,
    /// Only this workload may be the next holder; may be repeated
    #[arg(long = "may-act", value_name = "ID")]
    may_act: Vec<SpiffeId>,
    /// With this identity [default: the first that may begin tasks]
    #[arg(long, value_name = "ID")]
    spiffe_id: Option<SpiffeId>,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    endpoint: EndpointArgs,
}

/// What it may do.
#[derive(Debug, clap::Args)]
struct GrantArgs {
    /// URI of the resource that the token is for
    #[arg(long, value_name = "URI", required_unless_present = "grant")]
    audience: Option<String>,
    /// A scope token; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// An audience to which parts may be delegated; may be repeated
    #[arg(long = "delegable", value_name = "URI")]
    delegable: Vec<String>,
    /// File with the whole grant as JSON (docs/tasks.md); - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["audience", "scopes", "delegable"])]
    grant: Option<PathBuf>,
}

impl Begin {
    pub(crate) async fn run(self, out: Out) -> Result<(), Failure> {
        let request = wire::BeginRequest {
            purpose: self.asked.purpose.clone(),
            grant: self.asked.grant.json()?,
            deadline_s: self.asked.deadline_s(),
            max_hops: self.asked.max_hops.map(u32::from),
            may_act: self.asked.may_act(),
            detached: true,
            spiffe_id: self.asked.named(),
            subject_token: self.subject_token_file.as_deref().map(token).transpose()?.unwrap_or_default(),
        };
        let answer = self.asked.endpoint.tasks().await?.begin(request).await;
        let answer = answer.map_err(|status| Failure::status("the task was not begun", &status))?;
        self.asked.show(answer.into_inner(), out).await
    }
}

impl Delegate {
    pub(crate) async fn run(self, out: Out) -> Result<(), Failure> {
        let request = wire::DelegateRequest {
            parent_token: token(&self.parent_token_file)?,
            purpose: self.asked.purpose.clone(),
            grant: self.asked.grant.json()?,
            deadline_s: self.asked.deadline_s(),
            max_hops: self.asked.max_hops.map(u32::from),
            may_act: self.asked.may_act(),
            detached: true,
            spiffe_id: self.asked.named(),
        };
        let answer = self.asked.endpoint.tasks().await?.delegate(request).await;
        let answer = answer.map_err(|status| Failure::status("the task was not delegated", &status))?;
        self.asked.show(answer.into_inner(), out).await
    }
}

impl Asked {
    fn deadline_s(&self) -> u32 {
        self.deadline.map_or(0, Ttl::as_s)
    }

    fn may_act(&self) -> Option<wire::MayAct> {
        let spiffe_ids: Vec<_> = self.may_act.iter().map(ToString::to_string).collect();
        (!spiffe_ids.is_empty()).then_some(wire::MayAct { spiffe_ids })
    }

    fn named(&self) -> String {
        self.spiffe_id.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    async fn show(&self, answer: wire::BeginResponse, out: Out) -> Result<(), Failure> {
        let (Some(task), Some(token)) = (answer.task, answer.token) else {
            return Err(Failure::bug("the task was begun and not shown", "the node agent's answer lacks a part"));
        };
        let written = match self.target.write(&token) {
            Ok(written) => written,
            Err(failure) => return Err(self.taken_back(&task.id, failure).await),
        };
        let begun = Begun {
            task: TaskShown::of(&task),
            expires_at: time(token.expires_at),
            granted: granted(&task.grant),
            written,
            token: token.token,
        };
        Ok(out.show(&begun)?)
    }

    /// Nobody would know of a task whose files could not be written.
    async fn taken_back(&self, id: &str, mut failure: Failure) -> Failure {
        let request = wire::CompleteRequest { id: id.to_owned(), failed: true };
        let ended = match self.endpoint.tasks().await {
            Ok(mut tasks) => tasks.complete(request).await.map_err(|status| status.message().to_owned()),
            Err(failure) => Err(failure.why),
        };
        if let Err(why) = ended {
            failure.remedy =
                format!("{}; and complete the task {id}, which could not be taken back: {why}", failure.remedy);
        }
        failure
    }
}

impl GrantArgs {
    /// The grant as JSON, read here so that what is wrong with it is said without a call.
    fn json(&self) -> Result<String, Failure> {
        let text = match &self.grant {
            Some(file) => read_document(file)?,
            None => self.written_out().into_bytes(),
        };
        let refused = |refusal: Refusal| Failure::refused("the grant cannot be used", &refusal);
        let grant = Grant::from_json(&text).map_err(|error| refused(Refusal::from(error)))?;
        Ok(Value::Object(grant.to_json()).to_string())
    }

    fn written_out(&self) -> String {
        let mut members = Map::new();
        members.insert("audience".to_owned(), self.audience.clone().into());
        for (name, list) in [("scope", &self.scopes), ("delegable", &self.delegable)] {
            if !list.is_empty() {
                members.insert(name.to_owned(), list.clone().into());
            }
        }
        Value::Object(members).to_string()
    }
}

/// A token from a file.
fn token(file: &Path) -> Result<String, Failure> {
    let text = String::from_utf8(read_document(file)?);
    let unreadable = |error: FromUtf8Error| {
        Failure::input("the token was not read", error.to_string(), "give a token as it was issued, and nothing else")
    };
    Ok(text.map_err(unreadable)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    fn args(audience: &str, scopes: &[&str]) -> GrantArgs {
        let scopes = scopes.iter().map(ToString::to_string).collect();
        GrantArgs { audience: Some(audience.to_owned()), scopes, delegable: Vec::new(), grant: None }
    }

    #[test]
    fn flags_and_a_file_make_the_same_grant_and_what_is_none_is_bad_input() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("grant.json");
        std::fs::write(&file, r#"{"scope": ["b", "a"], "audience": "https://files.example.org/"}"#).unwrap();
        let whole = GrantArgs { audience: None, scopes: Vec::new(), delegable: Vec::new(), grant: Some(file) };
        let flags = args("https://files.example.org/", &["a", "b"]);
        assert_eq!(flags.json().unwrap(), whole.json().unwrap());
        for wrong in [args("files", &[]), args("https://files.example.org/", &["a", "a"])] {
            assert_eq!(wrong.json().unwrap_err().exit, Exit::BadInput);
        }
    }
}
