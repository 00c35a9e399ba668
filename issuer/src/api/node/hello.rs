//! The first message of both sides: builds, protocol versions, clocks.

use mayfly_proto::node::Hello;
use mayfly_sdk::{Reason, Refusal};

use crate::directory::Directory;

/// The oldest and newest protocol version that this build speaks.
const PROTOCOL: (u32, u32) = (1, 1);
/// The feature of agents and issuers that know tasks.
const TASKS: &str = "tasks";
/// The longest build name, boot id or feature, bytes.
const MAX_TEXT: usize = 128;
/// The most features.
const MAX_FEATURES: usize = 64;
/// Beyond this difference of the clocks people are warned, milliseconds.
const SKEW_WARNED_MS: i64 = 5_000;

/// What an agent said about itself, read.
#[derive(Debug)]
pub(super) struct Greeting {
    /// Name and version of its build.
    pub(super) build: String,
    /// Its clock minus ours, milliseconds.
    pub(super) skew_ms: i64,
    /// Whether it wants to hear of tasks.
    pub(super) tasks: bool,
}

/// Reads an agent's hello.
///
/// # Errors
/// It is missing or too large, for another trust domain, or speaks no version that this issuer does.
pub(super) fn read(hello: Option<Hello>, directory: &Directory) -> Result<Greeting, Refusal> {
    let hello = hello.ok_or_else(|| Refusal::new(Reason::InvalidArgument, "the first message has no hello"))?;
    let texts = [&hello.build, &hello.boot_id];
    if texts.into_iter().chain(&hello.features).any(|text| text.len() > MAX_TEXT) || hello.features.len() > MAX_FEATURES
    {
        return Err(Refusal::new(Reason::InvalidArgument, "the hello is longer than any agent's"));
    }
    if hello.trust_domain != directory.trust_domain().as_str() {
        let what =
            format!("this issuer serves the trust domain {}, not {:?}", directory.trust_domain(), hello.trust_domain);
        return Err(Refusal::new(Reason::UnknownTrustDomain, what));
    }
    let (oldest, newest) = PROTOCOL;
    if hello.protocol_min > newest || hello.protocol_max < oldest {
        let what = format!(
            "this issuer speaks node protocol {oldest} to {newest}, the agent {} to {}",
            hello.protocol_min, hello.protocol_max
        );
        return Err(Refusal::new(Reason::ProtocolUnsupported, what));
    }
    let skew_ms = hello.clock_ms.saturating_sub(directory.clock().now_ms());
    if skew_ms.saturating_abs() > SKEW_WARNED_MS {
        tracing::warn!(skew_ms, build = hello.build, "an agent's clock differs from ours");
    }
    let tasks = hello.features.iter().any(|feature| feature == TASKS);
    Ok(Greeting { build: hello.build, skew_ms, tasks })
}

/// This issuer's hello.
pub(super) fn own(directory: &Directory) -> Hello {
    Hello {
        build: concat!("mayfly-issuer/", env!("CARGO_PKG_VERSION")).to_owned(),
        protocol_min: PROTOCOL.0,
        protocol_max: PROTOCOL.1,
        features: vec![TASKS.to_owned()],
        clock_ms: directory.clock().now_ms(),
        trust_domain: directory.trust_domain().to_string(),
        boot_id: String::new(),
    }
}
