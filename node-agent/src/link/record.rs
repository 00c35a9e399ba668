//! What the node remembers of its enrolment: `STATE/node.json`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mayfly_sdk::{Reason, Refusal};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::directory::{Directory, DirectoryError};

const FILE: &str = "node.json";
const VERSION: u32 = 1;

/// An enrolment, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeRecord {
    version: u32,
    pub(crate) trust_domain: String,
    pub(crate) spiffe_id: String,
    /// Base64 DER, leaf first, root excluded.
    chain: Vec<String>,
    /// SPIFFE bundle document of the trust domain.
    pub(crate) bundle: String,
    /// To name in the next renewal.
    pub(crate) generation: u64,
    /// A renewal that was begun and not answered yet.
    pub(crate) pending: Option<PendingRenewal>,
    /// SHA-256 (hex) of the join token that was used, so that a new one in its file is noticed.
    pub(crate) token_fingerprint: Option<String>,
}

/// A renewal that was begun: the same id gets the same answer, whatever was lost on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PendingRenewal {
    /// 16 bytes, hex.
    request_id: String,
    pub(crate) generation: u64,
}

impl PendingRenewal {
    /// A renewal that nobody has seen yet.
    ///
    /// # Errors
    /// [`Reason::RandomnessUnavailable`].
    pub(crate) fn begin(generation: u64) -> Result<Self, Refusal> {
        Ok(Self { request_id: hex::encode(crate::random_id()?), generation })
    }

    /// Its id, 16 bytes.
    pub(crate) fn request_id(&self) -> Vec<u8> {
        hex::decode(&self.request_id).unwrap_or_default()
    }
}

impl NodeRecord {
    /// The record of a fresh enrolment.
    pub(crate) fn new(trust_domain: String, spiffe_id: String, bundle: String) -> Self {
        Self {
            version: VERSION,
            trust_domain,
            spiffe_id,
            chain: Vec::new(),
            bundle,
            generation: 0,
            pending: None,
            token_fingerprint: None,
        }
    }

    /// Reads the record; none where this node was never enrolled.
    ///
    /// # Errors
    /// [`Reason::Internal`] with what to do, if the file is there and cannot be used.
    pub(crate) fn load(directory: &Directory) -> Result<Option<Self>, DirectoryError> {
        let Some(bytes) = directory.read(FILE)? else { return Ok(None) };
        let unreadable = |why: String| DirectoryError::Unreadable { file: FILE, why };
        let record: Self = serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
        if record.version != VERSION {
            return Err(unreadable(format!("it has version {}, and this build knows {VERSION}", record.version)));
        }
        Ok(Some(record))
    }

    /// Writes the record durably.
    ///
    /// # Errors
    /// [`Reason::StateUnwritable`]: the old record is then still there.
    pub(crate) async fn save(&self, directory: &Directory) -> Result<(), Refusal> {
        let json = serde_json::to_vec_pretty(self)
            .map_err(|error| Refusal::new(Reason::Internal, format!("the node's record cannot be written: {error}")))?;
        let saved = directory.replace_later(FILE, Zeroizing::new(json)).await;
        saved.map_err(|error| Refusal::new(Reason::StateUnwritable, error.to_string()))
    }

    /// The node's chain, leaf first.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.iter().filter_map(|text| STANDARD.decode(text).ok()).map(CertificateDer::from).collect()
    }

    /// The node's chain, leaf first.
    pub(crate) fn set_chain(&mut self, chain: &[CertificateDer<'_>]) {
        self.chain = chain.iter().map(|der| STANDARD.encode(der)).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pending_renewal_survives_a_restart() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("state");
        let mut record =
            NodeRecord::new("example.org".into(), "spiffe://example.org/mayfly/node/x/1".into(), "{}".into());
        record.set_chain(&[CertificateDer::from(vec![1, 2, 3])]);
        record.pending = Some(PendingRenewal::begin(7).unwrap());
        record.save(&Directory::open(&path).unwrap()).await.unwrap();
        let loaded = NodeRecord::load(&Directory::open(&path).unwrap()).unwrap().unwrap();
        assert_eq!(loaded, record);
        assert_eq!(loaded.pending.unwrap().request_id().len(), 16);
        assert_eq!(loaded.chain.len(), 1);
    }

    #[test]
    fn a_damaged_record_is_named_and_not_ignored() {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::open(&temp.path().join("state")).unwrap();
        directory.replace(FILE, b"{").unwrap();
        let error = NodeRecord::load(&directory).unwrap_err().to_string();
        assert!(error.contains("node.json"), "{error}");
    }
}
