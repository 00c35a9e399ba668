//! Many records as one row.
//!
//! ```text
//! records  = (length u32 | canonical bytes | SHA-256 of them [32])*
//! personal = (length u32 | salt [16] | personal part)*     length 0: there is none, or it was erased
//! commitment = SHA-256(salt | personal part)
//! ```
//! Both have one item for each record, in the same order.

use bytes::Bytes;
use mayfly_sdk::{Reason, Serial};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};

use super::bytes::{event_of, read_personal, read_record, write_personal, write_record};
use super::{Digest, Record};

/// Version of the batch's layout. That of each record is in its own bytes.
pub const BATCH_FORMAT: u16 = 1;

/// The earliest and the latest record of a batch are no further apart, so that a time selects few batches.
pub const MAX_SPAN_MS: i64 = 10_000;
/// A batch that has more bytes takes no further records.
const MAX_BYTES: usize = 4 << 20;

const SALT: usize = 16;
const LENGTH: usize = 4;
/// What a typical issue takes, so that a batch's buffers grow once.
const TYPICAL: usize = 384;

/// Why records could not become bytes, or bytes records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// A field has more than 65,535 bytes. The caller's move.
    #[error("a field of a ledger record has more than 65535 bytes")]
    FieldTooLong,
    /// The kernel gave no salt. The operator's move.
    #[error("the kernel gave no random bytes")]
    NoRandomness,
    /// A newer build wrote this. The operator's move: read it with that.
    #[error("a newer version of Mayfly wrote this ledger record")]
    Newer,
    /// The bytes are not a record, or its digest or commitment does not hold. The operator's move: somebody, or the
    /// disk, altered the ledger.
    #[error("the ledger was altered: {0}")]
    Malformed(&'static str),
}

impl LedgerError {
    /// The stable code.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::FieldTooLong => Reason::InvalidArgument,
            Self::NoRandomness => Reason::RandomnessUnavailable,
            Self::Newer => Reason::StoreNewerSchema,
            Self::Malformed(_) => Reason::StoreCorrupt,
        }
    }
}

/// Records as bytes, ready to be joined with others into a [`Batch`].
#[derive(Debug, Clone, Default)]
pub struct Encoded {
    /// See the module.
    pub records: Vec<u8>,
    /// See the module.
    pub personal: Vec<u8>,
    /// How many.
    pub count: u32,
    /// Time of the earliest, Unix milliseconds; 0 where there is none.
    pub first_ms: i64,
    /// Time of the latest, Unix milliseconds; 0 where there is none.
    pub last_ms: i64,
}

impl Encoded {
    /// The bytes of these records: one part, unless they span more time or bytes than a batch does. One call to the
    /// kernel salts them all.
    ///
    /// # Errors
    /// [`LedgerError::FieldTooLong`], [`LedgerError::NoRandomness`].
    pub fn new(records: &[Record]) -> Result<Vec<Self>, LedgerError> {
        let mut salts = vec![0; records.len() * SALT];
        SystemRandom::new().fill(&mut salts).map_err(|ring::error::Unspecified| LedgerError::NoRandomness)?;
        let mut done = Vec::new();
        let mut part = Self {
            records: Vec::with_capacity(records.len() * TYPICAL),
            personal: Vec::with_capacity(records.len() * TYPICAL / 2),
            ..Self::default()
        };
        for (record, salt) in records.iter().zip(salts.chunks_exact(SALT)) {
            if !part.takes(record.time_ms(), record.time_ms(), TYPICAL) {
                done.push(std::mem::take(&mut part));
            }
            part.push(record, salt)?;
        }
        if part.count > 0 {
            done.push(part);
        }
        Ok(done)
    }

    /// Adds `more` to the last of `parts` if a batch takes both, else as a part of its own.
    pub fn gather(parts: &mut Vec<Self>, more: Self) {
        match parts.last_mut() {
            Some(last) if last.takes(more.first_ms, more.last_ms, more.size()) => {
                last.records.extend_from_slice(&more.records);
                last.personal.extend_from_slice(&more.personal);
                last.cover(more.first_ms, more.last_ms, more.count);
            }
            _ => parts.push(more),
        }
    }

    /// Bytes of both parts together.
    #[must_use]
    pub fn size(&self) -> usize {
        self.records.len() + self.personal.len()
    }

    fn push(&mut self, record: &Record, salt: &[u8]) -> Result<(), LedgerError> {
        let commitment = if record.personal.is_empty() {
            self.personal.extend_from_slice(&[0; LENGTH]);
            None
        } else {
            let part = item(&mut self.personal, |to| {
                to.extend_from_slice(salt);
                write_personal(to, &record.personal)
            })?;
            Some(sha256(part))
        };
        let canonical = item(&mut self.records, |to| write_record(to, record, commitment.as_ref()))?;
        let digest = sha256(canonical);
        self.records.extend_from_slice(&digest);
        self.cover(record.time_ms(), record.time_ms(), 1);
        Ok(())
    }

    fn takes(&self, first_ms: i64, last_ms: i64, bytes: usize) -> bool {
        let span_ms = last_ms.max(self.last_ms).saturating_sub(first_ms.min(self.first_ms));
        self.count == 0 || (span_ms <= MAX_SPAN_MS && self.size() + bytes <= MAX_BYTES)
    }

    fn cover(&mut self, first_ms: i64, last_ms: i64, count: u32) {
        let none = self.count == 0;
        self.first_ms = if none { first_ms } else { self.first_ms.min(first_ms) };
        self.last_ms = if none { last_ms } else { self.last_ms.max(last_ms) };
        self.count = self.count.saturating_add(count);
    }
}

/// One row of the ledger: what one group commit made durable, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Ascending in commit order, gap-free.
    pub id: u64,
    /// Version of the layout.
    pub format: u16,
    /// How many records.
    pub count: u32,
    /// See the module.
    pub records: Bytes,
    /// See the module.
    pub personal: Bytes,
}

/// A record as it was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// What it says.
    pub record: Record,
    /// Its canonical bytes.
    pub canonical: Bytes,
    /// SHA-256 of those.
    pub digest: Digest,
    /// Whether it had a personal part that was erased.
    pub erased: bool,
    /// The batch that it stands in.
    pub batch: u64,
}

impl Batch {
    /// Every record, with its digest and commitment checked.
    ///
    /// # Errors
    /// [`LedgerError::Malformed`], [`LedgerError::Newer`].
    pub fn read(&self) -> Result<Vec<Logged>, LedgerError> {
        let mut all = Vec::with_capacity(usize::try_from(self.count).unwrap_or_default().min(4096));
        self.walk(|canonical, digest, personal| {
            all.push(self.logged(canonical, digest, personal)?);
            Ok(true)
        })?;
        Ok(all)
    }

    /// The record with this id, if it stands in this batch.
    ///
    /// # Errors
    /// [`LedgerError::Malformed`], [`LedgerError::Newer`].
    pub fn find(&self, event: Serial) -> Result<Option<Logged>, LedgerError> {
        let mut found = None;
        self.walk(|canonical, digest, personal| {
            if event_of(canonical) == Some(event) {
                found = Some(self.logged(canonical, digest, personal)?);
            }
            Ok(found.is_none())
        })?;
        Ok(found)
    }

    /// Calls `each` with canonical bytes, digest and personal part (salt first) until it says `false`.
    fn walk<'a>(
        &'a self,
        mut each: impl FnMut(&'a [u8], Digest, &'a [u8]) -> Result<bool, LedgerError>,
    ) -> Result<(), LedgerError> {
        if self.format != BATCH_FORMAT {
            return Err(LedgerError::Newer);
        }
        let (mut records, mut personal) = (&*self.records, &*self.personal);
        for _ in 0..self.count {
            let canonical = next_item(&mut records)?;
            let (digest, after) = records.split_first_chunk().ok_or(CUT)?;
            records = after;
            if !each(canonical, *digest, next_item(&mut personal)?)? {
                return Ok(());
            }
        }
        if records.is_empty() && personal.is_empty() { Ok(()) } else { Err(CUT) }
    }

    fn logged(&self, canonical: &[u8], digest: Digest, personal: &[u8]) -> Result<Logged, LedgerError> {
        if sha256(canonical) != digest {
            return Err(LedgerError::Malformed("a digest does not hold"));
        }
        let (mut record, commitment) = read_record(canonical)?;
        let erased = commitment.is_some() && personal.is_empty();
        if !personal.is_empty() {
            if commitment != Some(sha256(personal)) {
                return Err(LedgerError::Malformed("a commitment does not hold"));
            }
            record.personal = read_personal(personal.get(SALT..).ok_or(CUT)?)?;
        }
        Ok(Logged { record, canonical: self.records.slice_ref(canonical), digest, erased, batch: self.id })
    }
}

const CUT: LedgerError = LedgerError::Malformed("a batch is cut short");

/// Appends what `write` writes, its length before it, and returns it.
fn item(to: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<(), LedgerError>) -> Result<&[u8], LedgerError> {
    let length_at = to.len();
    to.extend_from_slice(&[0; LENGTH]);
    write(to)?;
    let length = u32::try_from(to.len() - length_at - LENGTH).ok().ok_or(LedgerError::FieldTooLong)?;
    if let Some(place) = to.get_mut(length_at..length_at + LENGTH) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    Ok(to.get(length_at + LENGTH..).unwrap_or_default())
}

fn next_item<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], LedgerError> {
    let (length, after) = rest.split_first_chunk().ok_or(CUT)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok().ok_or(CUT)?;
    let (item, after) = after.split_at_checked(length).ok_or(CUT)?;
    *rest = after;
    Ok(item)
}

fn sha256(bytes: &[u8]) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

#[cfg(test)]
mod tests;
