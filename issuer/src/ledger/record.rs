//! One record, before it is bytes and after it was read back.

use std::borrow::Cow;
use std::sync::Arc;

use mayfly_sdk::{InstanceId, Revision, Serial, SpiffeId, Timestamp};

use super::{Digest, Kind};

/// What a caller calls his request: 16 bytes of his choice.
pub type RequestId = [u8; 16];

/// One thing that happened. Fields that do not apply are `None`; texts are shared, so that a batch of a thousand issues
/// copies none.
///
/// ```text
/// Record { authority: Some(kid), released_sha256: Some(digest), ..Record::new(Kind::X509SvidIssued, serial) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The record's id, whose first 48 bits are its time. Of an issue it is the X.509 serial number or the `jti`.
    pub event: Serial,
    /// What happened.
    pub kind: Kind,
    /// The signing key concerned: the kid of a JWT key, the hexadecimal key id of an X.509 one.
    pub authority: Option<Arc<str>>,
    /// SHA-256 of the `SubjectPublicKeyInfo` that was certified or enrolled.
    pub key_sha256: Option<Digest>,
    /// The node that asked, or that this is about.
    pub node: Option<SpiffeId>,
    /// The process that the credential is for.
    pub instance: Option<InstanceId>,
    /// The registration entry that allowed it, or that was changed.
    pub entry_uid: Option<Arc<str>>,
    /// Of an issue: the entry's revision. Of a change: the revision that it made, which the store fills in.
    pub revision: Option<Revision>,
    /// What the caller called his request.
    pub request_id: Option<RequestId>,
    /// SHA-256 of the exact bytes that are released once this record is durable.
    pub released_sha256: Option<Digest>,
    /// When what was issued ends.
    pub not_after: Option<Timestamp>,
    /// The stable reason code of a refusal.
    pub reason: Option<Cow<'static, str>>,
    /// The policies that a decision about a task rests on: `none`, or their revision and the ids of those that made it.
    pub policy: Option<Arc<str>>,
    /// What may be erased later.
    pub personal: Personal,
}

/// What a record says about people and workloads by name. Kept beside the canonical bytes, which hold only a salted
/// commitment to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Personal {
    /// Whose identity it is.
    pub spiffe_id: Option<SpiffeId>,
    /// Who did it: `uid:0`, or a SPIFFE ID.
    pub actor: Option<Arc<str>>,
    /// Whatever else helps a reader: an entry's name, what exactly was refused.
    pub detail: Option<Arc<str>>,
}

impl Record {
    /// A record that says no more than what happened and, by its id, when.
    #[must_use]
    pub fn new(kind: Kind, event: Serial) -> Self {
        Self {
            event,
            kind,
            authority: None,
            key_sha256: None,
            node: None,
            instance: None,
            entry_uid: None,
            revision: None,
            request_id: None,
            released_sha256: None,
            not_after: None,
            reason: None,
            policy: None,
            personal: Personal::default(),
        }
    }

    /// When it happened, in Unix milliseconds.
    #[must_use]
    pub fn time_ms(&self) -> i64 {
        self.event.time_ms()
    }
}

impl Personal {
    /// Whether there is nothing to keep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spiffe_id.is_none() && self.actor.is_none() && self.detail.is_none()
    }
}
