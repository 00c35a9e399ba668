//! Real handshakes between certificates made at run time. Each refusal stands beside the same thing going well.

mod acceptance;
mod first_contact;
mod fixture;
mod resumption;
mod rotation;
#[cfg(feature = "serve")]
mod serving;
mod verdicts;
