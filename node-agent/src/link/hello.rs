use mayfly_proto::node;
use mayfly_sdk::{Clock, Reason, Refusal, TrustDomain};

/// The one protocol version so far.
const PROTOCOL: u32 = 1;

/// What this agent says of itself at the beginning of each stream.
#[derive(Debug, Clone)]
pub(super) struct Greeter {
    pub(super) trust_domain: TrustDomain,
    pub(super) boot_id: String,
    pub(super) clock: Clock,
}

impl Greeter {
    pub(super) fn hello(&self) -> node::Hello {
        node::Hello {
            build: concat!("mayfly-node-agent ", env!("CARGO_PKG_VERSION")).to_owned(),
            protocol_min: PROTOCOL,
            protocol_max: PROTOCOL,
            features: vec![crate::tasks::FEATURE.to_owned()],
            clock_ms: self.clock.now_ms(),
            trust_domain: self.trust_domain.to_string(),
            boot_id: self.boot_id.clone(),
        }
    }
}

/// Checks that the other side speaks a version that this one does, in the same trust domain.
///
/// # Errors
/// [`Reason::ProtocolUnsupported`], [`Reason::UnauthorizedPeer`] or [`Reason::MessageInvalid`].
pub(super) fn check_hello(hello: Option<&node::Hello>, greeter: &Greeter) -> Result<(), Refusal> {
    let hello = hello.ok_or_else(|| Refusal::new(Reason::MessageInvalid, "the issuer did not say hello"))?;
    if PROTOCOL < hello.protocol_min || hello.protocol_max < PROTOCOL {
        let what = format!(
            "the issuer ({}) speaks protocol versions {} to {}, and this agent {PROTOCOL}",
            hello.build, hello.protocol_min, hello.protocol_max
        );
        return Err(Refusal::new(Reason::ProtocolUnsupported, what));
    }
    if hello.trust_domain != greeter.trust_domain.as_str() {
        let what = format!("the issuer is one of {}, and this agent of {}", hello.trust_domain, greeter.trust_domain);
        return Err(Refusal::new(Reason::UnauthorizedPeer, what));
    }
    Ok(())
}
