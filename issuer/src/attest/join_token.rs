//! Join tokens: 256 random bits that an operator carries to one machine. Stored hashed; consumed for one key.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mayfly_sdk::{Reason, Refusal, Selector, Serial, SpiffeId, Timestamp, Ttl};
use ring::rand::{SecureRandom, SystemRandom};

use super::{Attested, Attestor, Means, ProvenKey, Secret, own_selectors};
use crate::{
    directory::{Actor, Directory},
    ledger::{Kind, Personal, Record},
    mint::sha256,
    store::JoinTokenRow,
};

/// Its name in SPIFFE IDs and selectors.
const NAME: &str = "join_token";

pub(super) struct JoinToken<'a> {
    pub(super) directory: &'a Arc<Directory>,
}

impl Attestor for JoinToken<'_> {
    type Evidence = Secret;

    fn attest(&self, secret: Secret, key: ProvenKey, now: Timestamp) -> Result<Attested, Refusal> {
        let sha256 = sha256(&[secret.expose().as_bytes()]);
        let token = self.directory.join_token(&sha256, now)?;
        let id = token.spiffe_id.path().rsplit('/').next().unwrap_or_default();
        let mut selectors = own_selectors(NAME, id)?.to_vec();
        selectors.extend(token.selectors);
        Ok(Attested { spiffe_id: token.spiffe_id, attestor: NAME, selectors, key, means: Means::JoinToken { sha256 } })
    }
}

/// What an operator asks for.
#[derive(Debug)]
pub struct JoinTokenRequest {
    /// How long it may be used.
    pub ttl: Ttl,
    /// The last path segment of the node to be; none: made here.
    pub node: Option<String>,
    /// Further selectors of the node.
    pub selectors: Vec<Selector>,
}

/// Makes a join token; the secret is returned once and kept nowhere.
///
/// # Errors
/// An illegal name or selector, or what the store says.
pub async fn create_join_token(
    directory: &Arc<Directory>,
    request: JoinTokenRequest,
    actor: &Actor,
) -> Result<(String, JoinTokenRow), Refusal> {
    // What other ways of attestation say; nobody may claim it for a token.
    let reserved = ["node", "x509pop", "agentless", "oidc"];
    if let Some(selector) = request.selectors.iter().find(|selector| reserved.contains(&selector.kind())) {
        let what = format!("the selector {selector} is made by the issuer itself");
        return Err(Refusal::new(Reason::InvalidSelector, what));
    }
    let node = match request.node {
        Some(node) => node,
        None => hex::encode(random::<16>()?),
    };
    let trust_domain = directory.trust_domain();
    let spiffe_id = SpiffeId::from_path(trust_domain, &format!("/mayfly/node/{NAME}/{node}"))?;
    if spiffe_id.segments().count() != 4 {
        return Err(Refusal::new(Reason::InvalidSpiffeId, format!("a node's name is one path segment, not {node:?}")));
    }
    let secret = URL_SAFE_NO_PAD.encode(random::<32>()?);
    let now = directory.clock().now();
    let token = JoinTokenRow {
        token_sha256: sha256(&[secret.as_bytes()]),
        spiffe_id: spiffe_id.clone(),
        selectors: request.selectors,
        owner: actor.to_string(),
        created_at: now,
        expires_at: now.saturating_add(request.ttl),
        bound_key_sha256: None,
    };
    let record = Record {
        node: Some(spiffe_id),
        not_after: Some(token.expires_at),
        personal: Personal { actor: Some(Arc::clone(actor)), ..Personal::default() },
        ..Record::new(Kind::JoinTokenCreated, Serial::generate(directory.clock().now_ms())?)
    };
    directory.create_join_token(token.clone(), vec![record]).await?;
    Ok((secret, token))
}

fn random<const N: usize>() -> Result<[u8; N], Refusal> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|ring::error::Unspecified| Refusal::no_randomness())?;
    Ok(bytes)
}
