//! What went wrong, told so that the reader knows what to do: what failed, why, and the remedy; for programs the same as JSON.

use std::fmt;
use std::io::{self, Write};

use mayfly_sdk::settings::Problems;
use mayfly_sdk::{Reason, Refusal, Retry};
use serde::Serialize;
use tonic::{Code, Status};

use crate::output::Format;

/// How the command ends when it fails (`sysexits.h`, where it has a number).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// The arguments make no command.
    Usage = 2,
    /// What was given cannot be used as it is.
    BadInput = 65,
    /// Somebody who is needed does not answer.
    Unavailable = 69,
    /// Mayfly's own mistake.
    Bug = 70,
    /// The answer is no.
    Refused = 77,
}

/// A failed command.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Failure {
    /// Stable code.
    pub(crate) reason: String,
    /// What did not happen.
    pub(crate) what: String,
    /// Why not.
    pub(crate) why: String,
    /// What to do.
    pub(crate) remedy: String,
    /// Whether the same command can succeed later: no, later, now.
    pub(crate) retry: &'static str,
    #[serde(skip)]
    pub(crate) exit: Exit,
    #[serde(skip)]
    closed_output: bool,
}

impl Failure {
    /// A failure of this command itself.
    pub(crate) fn new(
        exit: Exit,
        reason: &str,
        what: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let retry = if exit == Exit::Unavailable { Retry::Later } else { Retry::No };
        Self {
            reason: reason.to_owned(),
            what: what.into(),
            why: why.into(),
            remedy: remedy.into(),
            retry: retry.as_str(),
            exit,
            closed_output: false,
        }
    }

    /// What was refused, as the vocabulary says it.
    pub(crate) fn refused(what: impl Into<String>, refusal: &Refusal) -> Self {
        let reason = refusal.reason;
        Self {
            reason: reason.code().to_owned(),
            what: what.into(),
            why: refusal.what.clone(),
            remedy: reason.remedy().to_owned(),
            retry: reason.retry().as_str(),
            exit: exit_of(mayfly_sdk::grpc::code(reason)),
            closed_output: false,
        }
    }

    /// What a daemon answered. A remedy or reason that only a newer daemon knows is kept as it came.
    pub(crate) fn status(what: impl Into<String>, status: &Status) -> Self {
        let mut failure = Self::refused(what, &Refusal::from_status(status));
        let text = |key| status.metadata().get(key).and_then(|value| value.to_str().ok());
        if let Some(reason) = text(mayfly_sdk::grpc::REASON).filter(|sent| *sent != failure.reason) {
            reason.clone_into(&mut failure.reason);
        }
        if let Some(remedy) = text(mayfly_sdk::grpc::REMEDY) {
            remedy.clone_into(&mut failure.remedy);
        }
        failure.exit = exit_of(status.code());
        failure
    }

    /// A setting or file that cannot be used.
    pub(crate) fn input(what: impl Into<String>, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Exit::BadInput, Reason::InvalidArgument.code(), what, why, remedy)
    }

    /// Settings that cannot be used; each problem carries its own remedy.
    pub(crate) fn settings(what: impl Into<String>, problems: &Problems) -> Self {
        let remedy = if problems.len() == 1 { "correct it" } else { "correct each of them" };
        Self::new(Exit::BadInput, "invalid_configuration", what, problems.to_string(), remedy)
    }

    /// A mistake of this program.
    pub(crate) fn bug(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self::new(Exit::Bug, "bug", what, why.to_string(), "report it with the command and its output")
    }

    /// The same, as an answer of no: what was asked about does not hold.
    pub(crate) fn into_refusal(self) -> Self {
        Self { exit: if self.exit == Exit::BadInput { Exit::Refused } else { self.exit }, ..self }
    }

    /// Whether the reader of standard output went away, which is no failure: `mayfly ledger tail | head`.
    pub(crate) fn is_closed_output(&self) -> bool {
        self.closed_output
    }

    /// Says so on standard error. Nothing is left to do where that is closed too.
    pub(crate) fn report(&self, format: Format) {
        let mut stderr = io::stderr().lock();
        let written = match format {
            Format::Text => writeln!(stderr, "{self}"),
            Format::Json => writeln!(stderr, "{}", self.json()),
        };
        written.ok();
    }

    fn json(&self) -> String {
        #[derive(Serialize)]
        struct Wrapped<'a> {
            error: &'a Failure,
        }
        serde_json::to_string(&Wrapped { error: self }).unwrap_or_default()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "mayfly: {}", self.what)?;
        for line in self.why.lines() {
            writeln!(f, "  {line}")?;
        }
        write!(f, "  -> {} [{}]", self.remedy, self.reason)
    }
}

impl From<io::Error> for Failure {
    /// Only writing to standard output fails without words of its own.
    fn from(error: io::Error) -> Self {
        let failure = Self::new(
            Exit::Unavailable,
            "output_failed",
            "the output was not written",
            error.to_string(),
            "check where standard output goes",
        );
        Self { closed_output: error.kind() == io::ErrorKind::BrokenPipe, ..failure }
    }
}

fn exit_of(code: Code) -> Exit {
    match code {
        Code::InvalidArgument
        | Code::NotFound
        | Code::FailedPrecondition
        | Code::AlreadyExists
        | Code::OutOfRange
        | Code::Aborted => Exit::BadInput,
        Code::PermissionDenied | Code::Unauthenticated => Exit::Refused,
        Code::Internal | Code::Unknown | Code::DataLoss => Exit::Bug,
        _ => Exit::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_why_and_what_to_do() {
        let refusal = Refusal::new(Reason::ReservedSpiffeId, "the entry `web` names spiffe://example.org/mayfly/x");
        let failure = Failure::status("the entries were not applied", &Status::from(refusal));
        assert_eq!(
            failure.to_string(),
            "mayfly: the entries were not applied\n  the entry `web` names spiffe://example.org/mayfly/x\n  -> choose a path that does not begin \
             with /mayfly [reserved_spiffe_id]"
        );
        assert_eq!(
            failure.json(),
            r#"{"error":{"reason":"reserved_spiffe_id","what":"the entries were not applied","why":"the entry `web` names spiffe://example.org/mayfly/x","remedy":"choose a path that does not begin with /mayfly","retry":"no"}}"#
        );
        assert_eq!(failure.exit, Exit::BadInput);
    }

    #[test]
    fn exit_codes_follow_whose_move_it_is() {
        let exit = |reason| Failure::refused("", &Refusal::new(reason, "")).exit;
        assert_eq!(exit(Reason::InvalidSelector), Exit::BadInput);
        assert_eq!(exit(Reason::NoIdentity), Exit::Refused);
        assert_eq!(exit(Reason::PermissionDenied), Exit::Refused);
        assert_eq!(exit(Reason::Unavailable), Exit::Unavailable);
        assert_eq!(exit(Reason::KeyFailed), Exit::Bug);
        assert_eq!(Failure::refused("", &Refusal::new(Reason::WrongAudience, "")).into_refusal().exit, Exit::Refused);
    }

    #[test]
    fn a_code_of_a_newer_daemon_is_kept() {
        let mut status = Status::invalid_argument("words");
        status.metadata_mut().insert(mayfly_sdk::grpc::REASON, "from_the_future".parse().unwrap());
        status.metadata_mut().insert(mayfly_sdk::grpc::REMEDY, "upgrade this command".parse().unwrap());
        let failure = Failure::status("it failed", &status);
        assert_eq!((failure.reason.as_str(), failure.remedy.as_str()), ("from_the_future", "upgrade this command"));
    }
}
