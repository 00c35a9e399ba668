//! The ledger: one durable record for each thing that was attested, issued, refused, rotated or changed.
//!
//! A record is **canonical bytes**, versioned, with their SHA-256; what is personal (SPIFFE ID, actor, detail) stands
//! beside them and is bound to them by a salted commitment only, so that it can be erased while every digest still
//! holds (DESIGN 11). The records of one group commit are one [`Batch`] in one row: an issue costs a few
//! hundred bytes and no statement of its own. A record's id is the [`Serial`](mayfly_sdk::Serial) of what it records, whose time prefix
//! finds the batch, so no record needs an index entry.
//!
//! ```text
//! Record --encode--> canonical bytes + digest ─┐
//!                                              ├─> Batch = one row, durable before anything in it is released
//! Personal + salt ──commitment─────────────────┘
//! ```
//!
//! The bytes are fixed by `golden/`: a version once written is read for ever.

mod batch;
mod bytes;
mod kind;
mod record;

pub use batch::{BATCH_FORMAT, Batch, Encoded, LedgerError, Logged, MAX_SPAN_MS};
pub use kind::Kind;
pub use record::{Personal, Record, RequestId};

/// SHA-256 of something.
pub type Digest = [u8; 32];
