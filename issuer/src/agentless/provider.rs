use std::sync::Arc;

use mayfly_sdk::{Clock, Refusal, SpiffeId, Ttl};

use super::ProviderConfig;
use crate::oidc;

/// One identity provider of callers without a node agent.
#[derive(Debug)]
pub(super) struct Provider {
    oidc: oidc::Provider,
    origin: SpiffeId,
    require_jti: bool,
}

impl Provider {
    pub(super) fn new(name: &str, origin: SpiffeId, config: &ProviderConfig, clock: &Clock) -> Result<Self, Refusal> {
        let oidc = oidc::Provider::new("agentless", name, &config.described(), clock)?;
        Ok(Self { oidc, origin, require_jti: config.require_jti })
    }

    /// What verifies its tokens.
    pub(super) fn oidc(&self) -> &oidc::Provider {
        &self.oidc
    }

    pub(super) fn name(&self) -> &Arc<str> {
        self.oidc.name()
    }

    /// Where its callers come from, as the ledger says it.
    pub(super) fn origin(&self) -> &SpiffeId {
        &self.origin
    }

    pub(super) fn issuer(&self) -> &str {
        self.oidc.issuer()
    }

    pub(super) fn token_life(&self) -> Ttl {
        self.oidc.token_life()
    }

    pub(super) fn requires_jti(&self) -> bool {
        self.require_jti
    }
}
