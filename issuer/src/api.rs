//! The issuer's gRPC edges: messages in, domain calls, messages out. Only here does the issuer name tonic and prost.

pub mod admin;
pub mod node;
