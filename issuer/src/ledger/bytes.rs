//! The canonical bytes of a record, and of its personal part.
//!
//! ```text
//! record   = version u8 (1) | kind u16 | event id [16] | field*
//! personal = version u8 (1) | field*
//! field    = tag u8 | length u16 | value
//! ```
//! Integers are big-endian. Fields stand in ascending order of their tags, each at most once, absent ones left out: one
//! record has one encoding. A tag never changes its meaning; a reader that meets a tag, kind or version it does not
//! know says so and still has the digest.

use std::borrow::Cow;
use std::sync::Arc;

use mayfly_sdk::{InstanceId, Revision, Serial, SpiffeId, Timestamp};

use super::batch::LedgerError;
use super::{Digest, Kind, Personal, Record};

/// Version of the canonical bytes and of the personal part.
pub(super) const VERSION: u8 = 1;
/// Where the event id stands in the canonical bytes.
const EVENT_AT: std::ops::Range<usize> = 3..19;
/// A detail is cut here (bytes of UTF-8), so that hostile input cannot fill the ledger.
const MAX_DETAIL: usize = 4096;

mod tag {
    pub(super) const AUTHORITY: u8 = 1;
    pub(super) const KEY_SHA256: u8 = 2;
    pub(super) const NODE: u8 = 3;
    pub(super) const INSTANCE: u8 = 4;
    pub(super) const ENTRY_UID: u8 = 5;
    pub(super) const REVISION: u8 = 6;
    pub(super) const REQUEST_ID: u8 = 7;
    pub(super) const RELEASED_SHA256: u8 = 8;
    pub(super) const NOT_AFTER: u8 = 9;
    pub(super) const REASON: u8 = 10;
    pub(super) const PERSONAL_COMMITMENT: u8 = 11;
    pub(super) const POLICY: u8 = 12;

    pub(super) const SPIFFE_ID: u8 = 1;
    pub(super) const ACTOR: u8 = 2;
    pub(super) const DETAIL: u8 = 3;
}

/// Appends the canonical bytes of `record`.
pub(super) fn write_record(to: &mut Vec<u8>, record: &Record, commitment: Option<&Digest>) -> Result<(), LedgerError> {
    to.push(VERSION);
    to.extend_from_slice(&record.kind.code().to_be_bytes());
    to.extend_from_slice(record.event.as_bytes());
    field(to, tag::AUTHORITY, record.authority.as_deref().map(str::as_bytes))?;
    field(to, tag::KEY_SHA256, record.key_sha256.as_ref().map(<[u8; 32]>::as_slice))?;
    field(to, tag::NODE, record.node.as_ref().map(|node| node.as_str().as_bytes()))?;
    field(to, tag::INSTANCE, record.instance.as_ref().map(|id| id.as_bytes().as_slice()))?;
    field(to, tag::ENTRY_UID, record.entry_uid.as_deref().map(str::as_bytes))?;
    field(to, tag::REVISION, record.revision.map(revision_bytes).as_ref().map(<[u8; 16]>::as_slice))?;
    field(to, tag::REQUEST_ID, record.request_id.as_ref().map(<[u8; 16]>::as_slice))?;
    field(to, tag::RELEASED_SHA256, record.released_sha256.as_ref().map(<[u8; 32]>::as_slice))?;
    let not_after = record.not_after.map(|at| at.unix_s().to_be_bytes());
    field(to, tag::NOT_AFTER, not_after.as_ref().map(<[u8; 8]>::as_slice))?;
    field(to, tag::REASON, record.reason.as_deref().map(str::as_bytes))?;
    field(to, tag::PERSONAL_COMMITMENT, commitment.map(<[u8; 32]>::as_slice))?;
    field(to, tag::POLICY, record.policy.as_deref().map(|text| shortened(text).as_bytes()))
}

/// Appends the bytes of a personal part.
pub(super) fn write_personal(to: &mut Vec<u8>, personal: &Personal) -> Result<(), LedgerError> {
    to.push(VERSION);
    field(to, tag::SPIFFE_ID, personal.spiffe_id.as_ref().map(|id| id.as_str().as_bytes()))?;
    field(to, tag::ACTOR, personal.actor.as_deref().map(str::as_bytes))?;
    field(to, tag::DETAIL, personal.detail.as_deref().map(|text| shortened(text).as_bytes()))
}

/// The event id in canonical bytes, without reading the rest.
pub(super) fn event_of(canonical: &[u8]) -> Option<Serial> {
    Serial::try_from(canonical.get(EVENT_AT)?).ok()
}

/// Reads canonical bytes: the record, without its personal part, and the commitment to that.
pub(super) fn read_record(canonical: &[u8]) -> Result<(Record, Option<Digest>), LedgerError> {
    let head: &[u8; 19] = canonical.first_chunk().ok_or(LedgerError::Malformed("a record is cut short"))?;
    let [version, kind_high, kind_low, ..] = *head;
    if version != VERSION {
        return Err(LedgerError::Newer);
    }
    let kind = Kind::from_code(u16::from_be_bytes([kind_high, kind_low])).ok_or(LedgerError::Newer)?;
    let event = event_of(canonical).ok_or(LedgerError::Malformed("an event id is not a serial"))?;
    let mut record = Record::new(kind, event);
    let mut commitment = None;
    for_each_field(canonical.get(EVENT_AT.end..).unwrap_or_default(), |tag, value| {
        match tag {
            tag::AUTHORITY => record.authority = Some(text(value)?.into()),
            tag::KEY_SHA256 => record.key_sha256 = Some(fixed(value)?),
            tag::NODE => record.node = Some(spiffe_id(value)?),
            tag::INSTANCE => record.instance = Some(InstanceId::from_bytes(fixed(value)?)),
            tag::ENTRY_UID => record.entry_uid = Some(text(value)?.into()),
            tag::REVISION => record.revision = Some(revision(value)?),
            tag::REQUEST_ID => record.request_id = Some(fixed(value)?),
            tag::RELEASED_SHA256 => record.released_sha256 = Some(fixed(value)?),
            tag::NOT_AFTER => {
                record.not_after = Some(Timestamp::from_unix_s(i64::from_be_bytes(fixed(value)?)));
            }
            tag::REASON => record.reason = Some(Cow::Owned(text(value)?.to_owned())),
            tag::POLICY => record.policy = Some(text(value)?.into()),
            tag::PERSONAL_COMMITMENT => commitment = Some(fixed(value)?),
            _ => return Err(LedgerError::Newer),
        }
        Ok(())
    })?;
    Ok((record, commitment))
}

/// Reads a personal part.
pub(super) fn read_personal(bytes: &[u8]) -> Result<Personal, LedgerError> {
    let (version, fields) = bytes.split_first().ok_or(LedgerError::Malformed("a personal part is cut short"))?;
    if *version != VERSION {
        return Err(LedgerError::Newer);
    }
    let mut personal = Personal::default();
    for_each_field(fields, |tag, value| {
        match tag {
            tag::SPIFFE_ID => personal.spiffe_id = Some(spiffe_id(value)?),
            tag::ACTOR => personal.actor = Some(Arc::from(text(value)?)),
            tag::DETAIL => personal.detail = Some(Arc::from(text(value)?)),
            _ => return Err(LedgerError::Newer),
        }
        Ok(())
    })?;
    Ok(personal)
}

fn field(to: &mut Vec<u8>, tag: u8, value: Option<&[u8]>) -> Result<(), LedgerError> {
    let Some(value) = value else { return Ok(()) };
    let Ok(length) = u16::try_from(value.len()) else { return Err(LedgerError::FieldTooLong) };
    to.push(tag);
    to.extend_from_slice(&length.to_be_bytes());
    to.extend_from_slice(value);
    Ok(())
}

fn for_each_field(
    mut rest: &[u8],
    mut each: impl FnMut(u8, &[u8]) -> Result<(), LedgerError>,
) -> Result<(), LedgerError> {
    const CUT: LedgerError = LedgerError::Malformed("a field is cut short");
    let mut last = 0;
    while let Some((&[tag, high, low], after)) = rest.split_first_chunk() {
        if tag <= last {
            return Err(LedgerError::Malformed("the fields are not in order"));
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, after) = after.split_at_checked(length).ok_or(CUT)?;
        each(tag, value)?;
        (last, rest) = (tag, after);
    }
    if rest.is_empty() { Ok(()) } else { Err(CUT) }
}

fn shortened(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_DETAIL)).unwrap_or(text)
}

fn revision_bytes(revision: Revision) -> [u8; 16] {
    (u128::from(revision.epoch) << 64 | u128::from(revision.n)).to_be_bytes()
}

fn revision(value: &[u8]) -> Result<Revision, LedgerError> {
    let (epoch, n) = value.split_at_checked(8).unwrap_or_default();
    Ok(Revision { epoch: u64::from_be_bytes(fixed(epoch)?), n: u64::from_be_bytes(fixed(n)?) })
}

fn fixed<const N: usize>(value: &[u8]) -> Result<[u8; N], LedgerError> {
    <[u8; N]>::try_from(value).ok().ok_or(LedgerError::Malformed("a field has the wrong length"))
}

fn text(value: &[u8]) -> Result<&str, LedgerError> {
    std::str::from_utf8(value).ok().ok_or(LedgerError::Malformed("a text is not UTF-8"))
}

fn spiffe_id(value: &[u8]) -> Result<SpiffeId, LedgerError> {
    text(value)?.parse().ok().ok_or(LedgerError::Malformed("a text is not a SPIFFE ID"))
}
