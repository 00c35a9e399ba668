//! WIT contexts: a caller's WIT-SVIDs with their keys.

use mayfly_proto::workload::{Witsvid, WitsvidRequest, WitsvidResponse};
use tonic::{Status, Streaming};
use zeroize::Zeroizing;

use super::context::{invalid, mandatory};
use super::{Material, WorkloadClient};
use crate::reason::Refusal;
use crate::wit::WitSvid;

/// SVIDs in one message.
const MAX_SVIDS: usize = 100;

/// The WIT-SVIDs of the caller, of one moment. Where the installation does not issue any, a source of them fails for good
/// with `unimplemented` (row WA-60).
#[derive(Debug, Clone)]
pub struct WitContext {
    default: WitSvid,
    svids: Vec<HintedWit>,
}

/// A WIT-SVID, and what it is meant for.
#[derive(Debug, Clone)]
pub struct HintedWit {
    /// Unique in a context; `None` where the operator gave no hint.
    pub hint: Option<String>,
    /// The SVID.
    pub svid: WitSvid,
}

impl WitContext {
    /// The default identity: the first one that the agent names (Workload API 8).
    #[must_use]
    pub const fn default_svid(&self) -> &WitSvid {
        &self.default
    }

    /// All identities, the default one first; at least one.
    #[must_use]
    pub fn svids(&self) -> &[HintedWit] {
        &self.svids
    }

    /// The identity with this hint. Whether to take the default one where there is none is the caller's decision.
    #[must_use]
    pub fn by_hint(&self, hint: &str) -> Option<&WitSvid> {
        self.svids.iter().find(|svid| svid.hint.as_deref() == Some(hint)).map(|hinted| &hinted.svid)
    }
}

impl Material for WitContext {
    type Message = WitsvidResponse;
    const CALL: &'static str = "FetchWITSVID";

    async fn open(client: &WorkloadClient) -> Result<Streaming<WitsvidResponse>, Status> {
        client.api().fetch_witsvid(WitsvidRequest::default()).await.map(tonic::Response::into_inner)
    }

    /// Rows WA-11, WA-13, WA-15, WA-62, WA-63. The message is taken whole or not at all. Tokens are not verified against a
    /// bundle and may have expired: that is decided where they are shown.
    fn decode(message: WitsvidResponse) -> Result<Self, Refusal> {
        if message.svids.len() > MAX_SVIDS {
            return Err(invalid(&format!("it has {} SVIDs; at most {MAX_SVIDS} are read", message.svids.len())));
        }
        let mut svids: Vec<HintedWit> = Vec::with_capacity(message.svids.len());
        for part in message.svids {
            let (svid, hint) = svid_of(part)?;
            if hint.is_some() && svids.iter().any(|earlier| earlier.hint == hint) {
                tracing::warn!(spiffe_id = %svid.spiffe_id(), "svid with the hint of an earlier one left out");
                continue;
            }
            svids.push(HintedWit { hint, svid });
        }
        let Some(first) = svids.first() else {
            return Err(invalid("it has no SVID"));
        };
        Ok(Self { default: first.svid.clone(), svids })
    }
}

/// One SVID of a message: every mandatory field is there, and they are about one identity and one key.
fn svid_of(part: Witsvid) -> Result<(WitSvid, Option<String>), Refusal> {
    let Witsvid { spiffe_id, wit_svid, wit_svid_key, hint } = part;
    let key = Zeroizing::new(wit_svid_key);
    mandatory("spiffe_id", spiffe_id.as_bytes())?;
    mandatory("wit_svid", wit_svid.as_bytes())?;
    mandatory("wit_svid_key", key.as_bytes())?;
    let svid = WitSvid::from_jwk(&wit_svid, &key)
        .map_err(|error| invalid(&format!("the WIT-SVID of {spiffe_id}: {error}")))?;
    if svid.spiffe_id().as_str() != spiffe_id {
        return Err(invalid(&format!("the token of {spiffe_id} names {}", svid.spiffe_id())));
    }
    Ok((svid, Some(hint).filter(|hint| !hint.is_empty())))
}
