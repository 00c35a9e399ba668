//! `mayfly svid x509 fetch --issuer`: an identity without a node agent, for a token of an identity provider.
//!
//! The issuer is verified before the token is shown to it: a token is worth an identity to whoever has it.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use mayfly_proto::node::node_service_client::NodeServiceClient;
use mayfly_proto::node::{MintAgentlessRequest, MintAgentlessResponse, X509Issue};
use mayfly_sdk::client::X509Context;
use mayfly_sdk::tls::{Authorizer, ClientTls, Credentials, Options, Trust, connect};
use mayfly_sdk::x509::{CertificateRequest, Usage, verify};
use mayfly_sdk::{
    Bundle, Clock, KeyAlgorithm, PrivateKey, Reason, Refusal, SpiffeId, TrustDomain, X509BundleSet, X509Svid,
};
use rustls_pki_types::CertificateDer;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

use crate::failure::Failure;

/// How long connecting and the call may take, each.
const WITHIN: Duration = Duration::from_secs(15);
/// The longest token file, bytes.
const MAX_TOKEN: u64 = 64 * 1024;
/// The longest bundle file, bytes.
const MAX_BUNDLE: u64 = 1024 * 1024;

/// Where an identity comes from, if not from the node agent.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct AgentlessArgs {
    /// Ask this issuer, without a node agent, for a token of an identity provider
    #[arg(long, value_name = "HOST:PORT", requires_all = ["token_file", "bundle", "trust_domain"])]
    issuer: Option<String>,
    /// With --issuer: the file that holds the token; - for standard input
    #[arg(long, value_name = "FILE", requires = "issuer")]
    token_file: Option<PathBuf>,
    /// With --issuer: the SPIFFE bundle document that verifies the issuer
    #[arg(long, value_name = "FILE", requires = "issuer")]
    bundle: Option<PathBuf>,
    /// With --issuer: its trust domain
    #[arg(long, value_name = "NAME", env = "MAYFLY_TRUST_DOMAIN")]
    trust_domain: Option<TrustDomain>,
}

impl AgentlessArgs {
    /// Asks the issuer, if one was named.
    pub(super) async fn fetch(&self, spiffe_id: Option<&SpiffeId>) -> Result<Option<X509Context>, Failure> {
        let Some(issuer) = &self.issuer else { return Ok(None) };
        let (Some(token_file), Some(bundle), Some(trust_domain)) = (&self.token_file, &self.bundle, &self.trust_domain)
        else {
            let why = "--issuer needs --token-file, --bundle and --trust-domain";
            return Err(Failure::input("no X.509-SVID was fetched", why, "give all of them"));
        };
        let token = read(token_file, MAX_TOKEN)?;
        let token = String::from_utf8(token).unwrap_or_default().trim().to_owned();
        let bundle = Bundle::from_spiffe_json(trust_domain.clone(), &read(bundle, MAX_BUNDLE)?);
        let refused = |refusal: Refusal| Failure::refused("no X.509-SVID was fetched", &refusal);
        let bundle = bundle.map_err(|error| refused(error.into()))?;
        let trust = X509BundleSet::from_iter([bundle.x509]);
        let asked = async {
            let channel = dial(issuer, trust_domain, trust).await?;
            ask(channel, trust_domain, token, spiffe_id).await
        };
        asked.await.map(Some).map_err(refused)
    }
}

/// Connects to the issuer, which must be one of the trust domain.
async fn dial(issuer: &str, trust_domain: &TrustDomain, trust: X509BundleSet) -> Result<Channel, Refusal> {
    let authorizer = Authorizer::issuer_of(trust_domain.clone());
    let tls = ClientTls::new(Credentials::none(), Trust::fixed(trust), authorizer, &Clock::system(), &Options::grpc())?;
    let unreachable =
        |error: io::Error| Refusal::new(Reason::PeerUnreachable, format!("cannot connect to {issuer}: {error}"));
    let late = |_| Refusal::new(Reason::HandshakeTimeout, format!("{issuer} did not answer in time"));
    let tcp = tokio::time::timeout(WITHIN, TcpStream::connect(issuer)).await.map_err(late)?.map_err(unreachable)?;
    let connection = connect(tcp, &tls).await?;
    let mut once = Some(TokioIo::new(connection));
    let connector = tower::service_fn(move |_| {
        let connection = once.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
        std::future::ready(connection)
    });
    let channel = Endpoint::from_static("http://issuer.invalid").connect_with_connector(connector).await;
    channel.map_err(|error| Refusal::new(Reason::HandshakeFailed, format!("{issuer} does not speak HTTP/2: {error}")))
}

/// Makes a key, and has it certified.
async fn ask(
    channel: Channel,
    trust_domain: &TrustDomain,
    token: String,
    spiffe_id: Option<&SpiffeId>,
) -> Result<X509Context, Refusal> {
    let key = PrivateKey::generate(KeyAlgorithm::EcP256)?;
    // The key is new, and so is half of its digest.
    let request_id = key.public_key().spki_sha256().iter().take(16).copied().collect();
    let request = MintAgentlessRequest {
        request_id,
        trust_domain: trust_domain.to_string(),
        token,
        csr: CertificateRequest::sign(&key)?.into(),
        spiffe_id: spiffe_id.map(ToString::to_string).unwrap_or_default(),
    };
    let late = |_| Refusal::new(Reason::Unavailable, "the issuer did not answer in time");
    let mut client = NodeServiceClient::new(channel);
    let answer = tokio::time::timeout(WITHIN, client.mint_agentless(request)).await.map_err(late)?;
    accept(answer.map_err(|status| Refusal::from_status(&status))?.into_inner(), key, trust_domain)
}

/// Checks what came: it is for this key, and verifies against the bundle that came with it.
fn accept(answer: MintAgentlessResponse, key: PrivateKey, trust_domain: &TrustDomain) -> Result<X509Context, Refusal> {
    let X509Issue { leaf, intermediates, lifetime_s, .. } =
        answer.svid.ok_or_else(|| Refusal::new(Reason::MessageInvalid, "the issuer answered without an SVID"))?;
    let chain = std::iter::once(leaf).chain(intermediates).map(|der| CertificateDer::from(der.to_vec())).collect();
    let svid = X509Svid::new(chain, key)?;
    let mut bundles = X509BundleSet::default();
    for bundle in answer.bundles {
        let of: TrustDomain = TrustDomain::from_name(&bundle.trust_domain)?;
        bundles.insert(Bundle::from_spiffe_json(of, &bundle.document)?.x509);
    }
    // By the issuer's clock: if ours is wrong, a valid SVID must still be taken.
    let issued_at = svid.validity().not_after().saturating_sub(mayfly_sdk::Ttl::from_s(lifetime_s));
    let peer = verify(svid.chain(), &bundles, issued_at, Usage::Any)?;
    if peer.trust_domain() != trust_domain {
        let what = format!("the issuer of {trust_domain} answered with {}", peer.spiffe_id());
        return Err(Refusal::new(Reason::MessageInvalid, what));
    }
    Ok(X509Context::of_one(svid, bundles))
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, Failure> {
    let mut content = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().take(most + 1).read_to_end(&mut content)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut content))
    };
    let failed = |why: String| Failure::input(format!("{} was not read", path.display()), why, "name a readable file");
    read.map_err(|error| failed(error.to_string()))?;
    if content.len() as u64 > most {
        return Err(failed(format!("it is larger than {most} bytes")));
    }
    Ok(content)
}
