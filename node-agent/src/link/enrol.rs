//! Becoming a node, and becoming it again.

use mayfly_proto::node as wire;
use mayfly_sdk::bundle::{Bundle, X509BundleSet};
use mayfly_sdk::tls::{Authorizer, ClientTls, Credentials, Options, SpkiPin, Trust};
use mayfly_sdk::{Reason, Refusal, SpiffeId};

use super::attest::{Evidence, attest};
use super::dial::dial;
use super::machine::{Machine, MachineFiles};
use super::node::{NodeSvid, replace_node_key};
use super::record::NodeRecord;
use super::{JoinToken, Link, LinkState};

impl Link {
    /// Attests, if this node is not enrolled, if its SVID has expired, or if it was refused and has something else to show: a new token
    /// from the operator, or its machine's certificate.
    pub(super) async fn enrol_if_needed(&mut self) -> Result<(), Refusal> {
        if self.last.is_some_and(a_token_helps)
            && let Some(token) = self.unused_token().await
        {
            if self.last == Some(Reason::NodeFrozen) {
                // Another machine has the old key.
                self.key = replace_node_key(&self.directory).await?;
            }
            return self.enrol(&token).await;
        }
        let machine = self.settings.machine.clone();
        if let Some(files) = machine.filter(|_| self.record.is_none() || self.last.is_some_and(a_certificate_helps)) {
            if self.last == Some(Reason::NodeUnknown) {
                // The issuer forgot this node, perhaps because another machine had its key.
                self.key = replace_node_key(&self.directory).await?;
            }
            return self.enrol_machine(&files).await;
        }
        let Some(record) = &self.record else {
            let token = JoinToken::read(self.settings.join_token_file.as_deref()).await?;
            return self.enrol(&token).await;
        };
        if self.svid.as_ref().is_some_and(|svid| !svid.has_expired(&self.clock)) {
            return Ok(());
        }
        let id: SpiffeId = record.spiffe_id.parse().map_err(|error: mayfly_sdk::id::IdError| {
            Refusal::new(error.reason(), format!("the node's record names no SPIFFE ID: {error}"))
        })?;
        let issuer = self.begin();
        tracing::info!(node = %id, issuer, "the node's SVID has expired; attesting by its enrolled key");
        let dialed = dial(&issuer, &self.anonymous_tls, self.patience()).await?;
        let attested = attest(dialed, &self.key, Evidence::EnrolledKey(&id), &self.greeter).await?;
        let fingerprint = record.token_fingerprint.clone();
        self.enrolled(attested, fingerprint).await
    }

    /// The token in the operator's file, if it is another one than the node was enrolled with.
    pub(super) async fn unused_token(&self) -> Option<JoinToken> {
        let token = JoinToken::read(self.settings.join_token_file.as_deref()).await.ok()?;
        let used = self.record.as_ref().and_then(|record| record.token_fingerprint.as_deref());
        let refused = self.refused_token.as_deref();
        let fingerprint = token.fingerprint();
        (used != Some(&fingerprint) && refused != Some(&fingerprint)).then_some(token)
    }

    async fn enrol_machine(&mut self, files: &MachineFiles) -> Result<(), Refusal> {
        let issuer = self.begin();
        tracing::info!(issuer, "attesting by the machine's certificate");
        let machine = Machine::read(files).await?;
        // A node that was enrolled before knows better whom to believe than a file that was written then.
        let tls = if self.record.is_some() { self.anonymous_tls.clone() } else { self.first_contact(None).await? };
        let dialed = dial(&issuer, &tls, self.patience()).await?;
        let attested = attest(dialed, &self.key, Evidence::Machine(&machine), &self.greeter).await?;
        self.enrolled_anew(attested, None).await
    }

    async fn enrol(&mut self, token: &JoinToken) -> Result<(), Refusal> {
        let issuer = self.begin();
        tracing::info!(issuer, "attesting by a join token");
        let tls = self.first_contact(Some(token.pin())).await?;
        let dialed = dial(&issuer, &tls, self.patience()).await?;
        let attested = attest(dialed, &self.key, Evidence::JoinToken(token), &self.greeter).await;
        if attested.as_ref().is_err_and(|refusal| a_token_helps(refusal.reason)) {
            self.refused_token = Some(token.fingerprint());
        }
        self.enrolled_anew(attested?, Some(token.fingerprint())).await
    }

    fn begin(&self) -> String {
        let issuer = self.address();
        self.set_state(LinkState::Attesting { issuer: issuer.clone() });
        issuer
    }

    /// Trust at first contact, and only then: the bundle that the operator gave, or the token's pin. There is no contact without either.
    async fn first_contact(&self, pin: Option<SpkiPin>) -> Result<ClientTls, Refusal> {
        let trust_domain = self.settings.trust_domain.clone();
        let Some(path) = &self.settings.bootstrap_bundle else {
            let pin = pin.ok_or_else(|| {
                let what = "a machine's certificate says nothing about the issuer, and bootstrap_bundle is not set";
                Refusal::new(Reason::MachineCertificateUnusable, what)
            })?;
            return ClientTls::first_contact(pin, trust_domain, &self.clock, &Options::grpc());
        };
        let document = tokio::fs::read(path).await.map_err(|error| {
            Refusal::new(Reason::BundleInvalid, format!("bootstrap_bundle {} cannot be read: {error}", path.display()))
        })?;
        let bundle = Bundle::from_spiffe_json(trust_domain.clone(), &document)?;
        let trust = Trust::fixed(X509BundleSet::from_iter([bundle.x509]));
        ClientTls::new(Credentials::none(), trust, Authorizer::issuer_of(trust_domain), &self.clock, &Options::grpc())
    }

    /// As [`Self::enrolled`], where the node may be another one than before, or have other selectors: what is held was for those.
    async fn enrolled_anew(&mut self, attested: wire::Attested, token: Option<String>) -> Result<(), Refusal> {
        self.needs_snapshot = true;
        self.enrolled(attested, token).await
    }

    /// Checks what attestation has brought, and remembers it before using it.
    async fn enrolled(&mut self, attested: wire::Attested, token_fingerprint: Option<String>) -> Result<(), Refusal> {
        let trust_domain = &self.settings.trust_domain;
        let sent =
            attested.svid.ok_or_else(|| Refusal::new(Reason::MessageInvalid, "the issuer attested without an SVID"))?;
        let bundle = Bundle::from_spiffe_json(trust_domain.clone(), &attested.bundle)?;
        let document = String::from_utf8(attested.bundle.to_vec())
            .map_err(|error| Refusal::new(Reason::BundleInvalid, format!("the bundle is not text: {error}")))?;
        let trust = X509BundleSet::from_iter([bundle.x509.clone()]);
        let svid = NodeSvid::accept(&sent, &self.key, &trust, trust_domain, &self.clock)?;
        let mut record = NodeRecord::new(trust_domain.to_string(), sent.spiffe_id.clone(), document);
        record.set_chain(svid.chain());
        record.generation = sent.generation;
        record.token_fingerprint = token_fingerprint;
        record.save(&self.directory).await?;
        tracing::info!(node = %svid.spiffe_id(), ttl_s = sent.lifetime_s, "attested");
        self.presented.trust(&bundle);
        self.presented.present(&svid);
        self.node.send_replace(Some(record.spiffe_id.clone()));
        self.record = Some(record);
        self.svid = Some(svid);
        self.last = None;
        Ok(())
    }
}

/// Whether the machine's certificate ends this: it enrols the node anew.
pub(super) fn a_certificate_helps(reason: Reason) -> bool {
    matches!(reason, Reason::NodeUnknown | Reason::NodeReattestTooLate)
}

/// Whether another join token could end this.
fn a_token_helps(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::JoinTokenUnknown
            | Reason::JoinTokenUsed
            | Reason::JoinTokenExpired
            | Reason::NodeUnknown
            | Reason::NodeFrozen
            | Reason::NodeReattestTooLate
            | Reason::PinMismatch
            | Reason::X509SvidUntrusted
    )
}
