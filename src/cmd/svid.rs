//! `mayfly svid`: identities as the workload that runs this command gets them.

mod agentless;
mod files;
mod hook;
mod jwt;
mod jwt_watch;
mod wit;
mod wit_proof;
mod x509;
mod x509_validate;

use std::fmt::Write as _;

use clap::Subcommand;

use crate::failure::Failure;
use crate::output::Out;
use crate::runtime;

pub(crate) use files::{Access, write_files, write_task_files};

#[derive(Debug, Subcommand)]
pub(crate) enum Svid {
    /// X.509-SVIDs
    #[command(subcommand)]
    X509(X509),
    /// JWT-SVIDs
    #[command(subcommand)]
    Jwt(Jwt),
    /// WIT-SVIDs, where the trust domain issues them
    #[command(subcommand)]
    Wit(Wit),
}

#[derive(Debug, Subcommand)]
pub(crate) enum X509 {
    /// Fetch this process's X.509-SVIDs once
    Fetch(x509::Fetch),
    /// Print this process's X.509-SVIDs now and at each change, until ^C
    Watch(x509::Watch),
    /// Verify an X.509-SVID against the bundles that this process has
    Validate(x509_validate::Validate),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Jwt {
    /// Fetch JWT-SVIDs for an audience
    Fetch(jwt::Fetch),
    /// Print a JWT-SVID now and each time it is renewed, until ^C
    Watch(jwt_watch::Watch),
    /// Have the node agent validate a JWT-SVID
    Validate(jwt::Validate),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Wit {
    /// Fetch this process's WIT-SVIDs once
    Fetch(wit::Fetch),
    /// Print this process's WIT-SVIDs now and at each change, until ^C
    Watch(wit::Watch),
    /// Print the headers that prove to one request's receiver who makes it
    Prove(wit_proof::Prove),
    /// Verify the headers of a request against the bundles that this process has
    Validate(wit_proof::Validate),
}

impl Svid {
    pub(crate) fn run(self, out: Out) -> Result<(), Failure> {
        runtime::client(async {
            match self {
                Self::X509(X509::Fetch(verb)) => verb.run(out).await,
                Self::X509(X509::Watch(verb)) => verb.run(out).await,
                Self::X509(X509::Validate(verb)) => verb.run(out).await,
                Self::Jwt(Jwt::Fetch(verb)) => verb.run(out).await,
                Self::Jwt(Jwt::Watch(verb)) => verb.run(out).await,
                Self::Jwt(Jwt::Validate(verb)) => verb.run(out).await,
                Self::Wit(Wit::Fetch(verb)) => verb.run(out).await,
                Self::Wit(Wit::Watch(verb)) => verb.run(out).await,
                Self::Wit(Wit::Prove(verb)) => verb.run(out).await,
                Self::Wit(Wit::Validate(verb)) => verb.run(out).await,
            }
        })
    }
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to memory does not fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}
