//! A workload that knows only the `spiffe` crate.
//!
//! usage: spiffe-crate-workload denied | full. Prints one JSON object; exits 0 when the Workload API behaved as the SPIFFE
//! standards say.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a test's workload, which reports on its output")]

use std::{error::Error, time::Duration};

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use spiffe::{WorkloadApiClient, bundle::BundleSource as _};

const AUDIENCE: &str = "interop";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = WorkloadApiClient::connect_env().await?;
    let report = match std::env::args().nth(1).as_deref() {
        Some("denied") => denied(&client).await,
        _ => full(&client).await?,
    };
    println!("{report}");
    Ok(())
}

async fn denied(client: &WorkloadApiClient) -> Value {
    match client.fetch_x509_svid().await {
        Ok(_) => json!({"denied": false}),
        Err(error) => {
            let error = format!("{error:?}");
            json!({"denied": error.contains("NoIdentityIssued") || error.contains("PermissionDenied"), "error": error})
        }
    }
}

async fn full(client: &WorkloadApiClient) -> Result<Value, Box<dyn Error>> {
    let svid = client.fetch_x509_svid().await?;
    let trust_domain = svid.spiffe_id().trust_domain().clone();
    let bundle = client.fetch_x509_bundles().await?.bundle_for_trust_domain(&trust_domain)?.ok_or("no bundle")?;
    let token = client.fetch_jwt_svid([AUDIENCE], None).await?;
    client.fetch_jwt_bundles().await?.bundle_for_trust_domain(&trust_domain)?.ok_or("no JWT bundle")?;
    let validated = client.validate_jwt_token(AUDIENCE, token.token()).await?;
    let wrong = client.validate_jwt_token("another", token.token()).await;

    Ok(json!({
        "spiffe_id": svid.spiffe_id().to_string(),
        "chain_hex": svid.cert_chain().iter().map(|certificate| hex(certificate.as_bytes())).collect::<Vec<_>>(),
        "bundle_hex": bundle.authorities().iter().map(|certificate| hex(certificate.as_bytes())).collect::<Vec<_>>(),
        "jwt_spiffe_id": validated.spiffe_id().to_string(),
        "wrong_audience_refused": wrong.is_err(),
        "serials": rotations(client).await?,
    }))
}

/// The leaf certificates of the first SVID and of three rotations.
async fn rotations(client: &WorkloadApiClient) -> Result<Vec<String>, Box<dyn Error>> {
    let mut contexts = Box::pin(client.stream_x509_contexts().await?);
    let mut leaves: Vec<String> = Vec::new();
    let watching = async {
        while leaves.len() < 4 {
            let context = contexts.next().await.ok_or("the stream ended")??;
            let svid = context.default_svid().ok_or("an empty context")?;
            let leaf = hex(svid.cert_chain().first().ok_or("an empty chain")?.as_bytes());
            if leaves.last() != Some(&leaf) {
                leaves.push(leaf);
            }
        }
        Ok::<_, Box<dyn Error>>(())
    };
    tokio::time::timeout(Duration::from_secs(90), watching).await??;
    Ok(leaves)
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}
