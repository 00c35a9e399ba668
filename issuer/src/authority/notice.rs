//! What the issuer says about tasks beside their tokens: status lists, security events and transaction tokens, each signed by keys of
//! its own.

use bytes::Bytes;
use mayfly_sdk::{PrivateKey, PublicKey, jwk};

use super::certificate::Birth;
use super::keyring::{Keyring, Roster};
use super::kind::Kind;
use super::slot::Active;
use super::token::TokenSigner;
use super::{AuthorityError, AuthorityId};
use crate::store::SlotKind;

/// Signs Token Status Lists (draft-ietf-oauth-status-list-12); shared by all issuers of the trust domain.
#[derive(Debug)]
pub enum StatusList {}

/// Signs security event tokens (RFC 8417); shared by all issuers of the trust domain.
#[derive(Debug)]
pub enum SecurityEvent {}

/// Signs transaction tokens (draft-ietf-oauth-transaction-tokens-10); shared by all issuers of the trust domain.
#[derive(Debug)]
pub enum Transaction {}

/// A kind of notice.
pub trait Notice: Kind<Signer = TokenSigner> {
    /// The `typ` of its tokens.
    const TYP: &'static str;
}

impl Notice for StatusList {
    const TYP: &'static str = "statuslist+jwt";
}

impl Notice for SecurityEvent {
    const TYP: &'static str = "secevent+jwt";
}

impl Notice for Transaction {
    const TYP: &'static str = "txntoken+jwt";
}

impl<K: Notice> Active<K> {
    /// Signs the payload of a notice, and reads it back.
    ///
    /// # Errors
    /// [`AuthorityError::NotAsPlanned`] if something else was signed.
    pub async fn sign_notice(&self, payload: &[u8]) -> Result<String, AuthorityError> {
        let signer = self.signer();
        let token = signer.sign(payload).await?;
        let read = signer.read(&token, K::TYP)?;
        signer.check_signature(read)?;
        Ok(token)
    }
}

macro_rules! notice {
    ($kind:ident, $roster:ident) => {
        impl Kind for $kind {
            const NAME: SlotKind = SlotKind::$kind;
            type Signer = TokenSigner;

            fn authority_id(key: &PublicKey) -> AuthorityId {
                AuthorityId::new(&jwk::thumbprint(key))
            }

            /// The bare key is published.
            async fn certify(_: &Birth<'_>, _: &PrivateKey) -> Result<Vec<Bytes>, AuthorityError> {
                Ok(Vec::new())
            }

            fn signer(key: &PrivateKey, _: &[Bytes]) -> Result<TokenSigner, AuthorityError> {
                TokenSigner::new(key, <$kind as Notice>::TYP)
            }

            fn roster(keyring: &Keyring) -> &Roster<Self> {
                &keyring.$roster
            }

            fn roster_mut(keyring: &mut Keyring) -> &mut Roster<Self> {
                &mut keyring.$roster
            }
        }
    };
}

notice!(StatusList, status_lists);
notice!(SecurityEvent, security_events);
notice!(Transaction, transactions);
