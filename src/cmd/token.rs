//! `mayfly token`: what a token says, and whether it is good.

mod verify;

use std::fmt::Write as _;
use std::io::{self, Read as _, Write};

use clap::Subcommand;
use mayfly_sdk::jws::{self, Object};
use mayfly_sdk::{Clock, Timestamp};
use serde::Serialize;
use serde_json::Value;

use crate::failure::Failure;
use crate::output::{Out, View};
use crate::runtime;

/// The longest token that is read from standard input, bytes.
const LONGEST_TOKEN: u64 = 64 * 1024;

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Show what a token says, of any issuer and kind; nothing is verified
    Inspect(Inspect),
    /// Have a task token verified as a service of its audience would, against how its task stands at this moment
    Verify(verify::Verify),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// The token; - for standard input, which other processes do not see
    token: String,
}

/// What a token says. Nobody has checked it.
#[derive(Debug, Serialize)]
struct Said {
    kind: String,
    verified: bool,
    header: Object,
    claims: Object,
    expires_at: Option<Timestamp>,
    expired: Option<bool>,
    #[serde(skip)]
    now: Timestamp,
}

impl Token {
    pub(crate) fn run(self, out: Out) -> Result<(), Failure> {
        match self {
            Self::Inspect(verb) => verb.run(out),
            Self::Verify(verb) => runtime::client(verb.run(out)),
        }
    }
}

impl Inspect {
    fn run(self, out: Out) -> Result<(), Failure> {
        let token = if self.token == "-" { from_stdin()? } else { self.token };
        let (header, claims) = jws::insecure_parts(&token).map_err(|error| {
            Failure::input(
                "this is no token",
                error.to_string(),
                "give one token in compact serialization: three parts with dots between them",
            )
        })?;
        Ok(out.show(&Said::of(header, claims, Clock::system().now()))?)
    }
}

/// One token from standard input.
pub(super) fn from_stdin() -> Result<String, Failure> {
    let mut token = String::new();
    let read = io::stdin().lock().take(LONGEST_TOKEN).read_to_string(&mut token);
    read.map_err(|error| {
        Failure::input("the token was not read", error.to_string(), "give one token on standard input")
    })?;
    Ok(token.trim().to_owned())
}

impl Said {
    fn of(header: Object, claims: Object, now: Timestamp) -> Self {
        let expires_at = claims.get("exp").and_then(Value::as_i64).map(Timestamp::from_unix_s);
        Self {
            kind: kind(&header, &claims),
            verified: false,
            header,
            claims,
            expires_at,
            expired: expires_at.map(|end| end <= now),
            now,
        }
    }
}

/// What kind of token calls itself that.
fn kind(header: &Object, claims: &Object) -> String {
    let names_workload = claims.get("sub").and_then(Value::as_str).is_some_and(|sub| sub.starts_with("spiffe://"));
    let kind = match header.get("typ").and_then(Value::as_str) {
        None | Some("JWT" | "JOSE") if names_workload => "JWT-SVID",
        None | Some("JWT" | "JOSE") => "JWT",
        Some(mayfly_sdk::wit::TYP) => "WIT-SVID",
        Some(mayfly_sdk::wit::PROOF_TYP) => "proof of possession",
        Some(mayfly_sdk::task::TYP) if claims.contains_key("mayfly_task") => "task token",
        Some(mayfly_sdk::task::TYP) => "access token",
        Some("txntoken+jwt") => "transaction token",
        Some(other) => other,
    };
    kind.to_owned()
}

impl View for Said {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        writeln!(w, "{}, not verified", visible(&self.kind))?;
        match self.expires_at {
            Some(end) if end <= self.now => writeln!(w, "expired {end}, {} s ago", self.now.seconds_since(end))?,
            Some(end) => writeln!(w, "expires {end}, in {} s", end.seconds_since(self.now))?,
            None => writeln!(w, "never expires, or does not say when")?,
        }
        for (name, object) in [("header", &self.header), ("claims", &self.claims)] {
            writeln!(w, "{name} {}", visible(&serde_json::to_string_pretty(object)?))?;
        }
        Ok(())
    }
}

/// Text of somebody else's without what a terminal would obey, or would show in another order.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        let hidden = matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if hidden || (character.is_control() && character != '\n') {
            write!(shown, "\\u{{{:x}}}", u32::from(character)).ok();
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::output;

    fn object(value: Value) -> Object {
        match value {
            Value::Object(object) => object,
            _ => panic!("no object"),
        }
    }

    fn said(header: Value, claims: Value) -> Said {
        Said::of(object(header), object(claims), Timestamp::from_unix_s(1_800_000_000))
    }

    #[test]
    fn what_a_token_says_is_shown_in_both_forms_and_never_as_verified() {
        let said = said(
            json!({"alg": "ES256", "typ": "JWT"}),
            json!({"exp": 1_800_000_060, "sub": "spiffe://example.org/web"}),
        );
        assert_eq!(
            output::golden(&said),
            "JWT-SVID, not verified\nexpires 2027-01-15T08:01:00Z, in 60 s\nheader {\n  \"alg\": \"ES256\",\n  \"typ\": \"JWT\"\n}\nclaims {\n  \
             \"exp\": 1800000060,\n  \"sub\": \"spiffe://example.org/web\"\n}\n\
             {\"kind\":\"JWT-SVID\",\"verified\":false,\"header\":{\"alg\":\"ES256\",\"typ\":\"JWT\"},\"claims\":{\"exp\":1800000060,\
             \"sub\":\"spiffe://example.org/web\"},\"expires_at\":\"2027-01-15T08:01:00Z\",\"expired\":false}\n"
        );
    }

    #[test]
    fn each_kind_has_its_name() {
        let web = json!({"sub": "spiffe://example.org/web"});
        for (typ, claims, expected) in [
            (json!("JOSE"), web.clone(), "JWT-SVID"),
            (json!("JWT"), json!({"sub": "alice"}), "JWT"),
            (json!("wit+jwt"), web.clone(), "WIT-SVID"),
            (json!("wpt+jwt"), json!({}), "proof of possession"),
            (json!("at+jwt"), json!({"mayfly_task": {}}), "task token"),
            (json!("at+jwt"), web.clone(), "access token"),
            (json!("txntoken+jwt"), web.clone(), "transaction token"),
            (json!("dpop+jwt"), json!({}), "dpop+jwt"),
        ] {
            assert_eq!(said(json!({"typ": typ}), claims).kind, expected);
        }
        assert_eq!(said(json!({}), web).kind, "JWT-SVID");
    }

    #[test]
    fn a_token_cannot_command_the_terminal() {
        let text = output::golden(&said(json!({"typ": "\u{1b}[2J"}), json!({"sub": "a\u{202e}b\u{9b}2J", "exp": 5})));
        let text = text.split("{\"kind\"").next().unwrap();
        assert!(!text.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{text:?}");
        assert!(text.contains("expired 1970-01-01T00:00:05Z"), "{text}");
    }
}
