use super::{ProofError, TYP};
use crate::jws;

/// The header that a WIT-SVID is sent in.
pub const IDENTITY_HEADER: &str = "Workload-Identity-Token";
/// The header that a proof is sent in, with the scheme `WPT`: [`Carrier::Authorization`].
pub const AUTHORIZATION: &str = "Authorization";
/// The header that a proof is sent in by earlier drafts: [`Carrier::ProofHeader`].
pub const PROOF_HEADER: &str = "Workload-Proof-Token";
/// The header of a transaction token, to which a proof in the same request is bound.
pub const TRANSACTION_HEADER: &str = "Txn-Token";

/// The scheme of [`Carrier::Authorization`]; its case does not matter (RFC 9110 11.1).
const SCHEME: &str = "WPT";

/// How a proof travels beside its token. A validator accepts one way; a proof in another one is no proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Carrier {
    /// `Authorization: WPT <proof>`: draft-ietf-wimse-wpt-02.
    #[default]
    Authorization,
    /// `Workload-Proof-Token: <proof>`: draft-ietf-wimse-wpt-01 and before. Requests that have an `Authorization` as well are
    /// refused, because those drafts bind it by a claim that was dropped.
    ProofHeader,
}

/// What a request presents: exactly one token and one proof, and the further tokens that a proof must be bound to. Nothing
/// of it is verified.
#[derive(Clone)]
pub(super) struct Presentation<'a> {
    pub(super) token: &'a str,
    pub(super) proof: &'a str,
    pub(super) transaction: Option<&'a str>,
    /// Names in lower case.
    pub(super) context: Vec<(&'a str, &'a str)>,
}

impl<'a> Presentation<'a> {
    /// Looks for token and proof (row W-32). `context`: the names, in lower case, of further headers that hold tokens.
    pub(super) fn find<'h>(
        headers: impl IntoIterator<Item = (&'h str, &'a [u8])>,
        carrier: Carrier,
        context: &'a [String],
    ) -> Result<Self, ProofError> {
        let (mut token, mut proof, mut transaction) = (None, None, None);
        let mut found: Vec<(&str, &str)> = Vec::new();
        for (name, value) in headers {
            let value = || text(value);
            if name.eq_ignore_ascii_case(IDENTITY_HEADER) {
                put(&mut token, value()?, ProofError::NotOneToken)?;
            } else if name.eq_ignore_ascii_case(AUTHORIZATION) {
                put(&mut proof, authorization(value()?, carrier)?, ProofError::NotOneProof)?;
            } else if name.eq_ignore_ascii_case(PROOF_HEADER) {
                if carrier != Carrier::ProofHeader {
                    return Err(ProofError::NotOneProof);
                }
                put(&mut proof, value()?, ProofError::NotOneProof)?;
            } else if name.eq_ignore_ascii_case(TRANSACTION_HEADER) {
                put(&mut transaction, value()?, ProofError::TransactionNotBound)?;
            } else if let Some(known) = context.iter().find(|known| name.eq_ignore_ascii_case(known)) {
                if found.iter().any(|(name, _)| name == known) {
                    return Err(ProofError::ContextNotBound);
                }
                found.push((known, value()?));
            }
        }
        let token = token.ok_or(ProofError::NotOneToken)?;
        Ok(Self { token, proof: proof.ok_or(ProofError::NotOneProof)?, transaction, context: found })
    }
}

fn put<'a>(place: &mut Option<&'a str>, value: &'a str, twice: ProofError) -> Result<(), ProofError> {
    if place.replace(value).is_some() { Err(twice) } else { Ok(()) }
}

fn text(value: &[u8]) -> Result<&str, ProofError> {
    let text = str::from_utf8(value).ok().filter(|text| text.is_ascii()).ok_or(ProofError::NotText)?;
    Ok(text.trim_matches([' ', '\t']))
}

/// The proof in an `Authorization` header.
fn authorization(credentials: &str, carrier: Carrier) -> Result<&str, ProofError> {
    let (scheme, rest) = credentials.split_once(' ').unwrap_or((credentials, ""));
    let rest = rest.trim_start_matches(' ');
    if scheme.eq_ignore_ascii_case(SCHEME) && carrier == Carrier::Authorization {
        return Ok(rest);
    }
    let typ = jws::Unverified::parse(rest).ok();
    let is_wit = typ.is_some_and(|token| token.header().get("typ").is_some_and(|typ| typ == TYP));
    Err(if is_wit { ProofError::BearerToken } else { ProofError::OtherCredentials })
}
