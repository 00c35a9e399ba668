//! Where the keys of a provider come from: a file, or one address that is asked within bounds of time and size.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use mayfly_sdk::pem;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::config::Described;

/// The longest document, bytes.
const MAX_DOCUMENT: usize = 256 * 1024;
/// The longest file of certificate authorities, bytes.
const MAX_AUTHORITIES: u64 = 4 * 1024 * 1024;
/// How long asking an address may take in all: name, connection, handshake, answer.
const WITHIN: Duration = Duration::from_secs(5);
/// Whom this machine believes.
const MACHINE_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Where the keys of a provider come from.
#[derive(Debug)]
pub(super) enum KeySource {
    /// A file that the operator keeps current.
    File(PathBuf),
    /// An address.
    Url { url: JwksUrl, tls: Arc<ClientConfig> },
}

/// `https://HOST[:PORT]/PATH`, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JwksUrl {
    host: String,
    port: u16,
    /// With the query.
    path: String,
}

impl JwksUrl {
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let parsed: http::Uri = url.parse().map_err(|error| format!("{url:?} is no address: {error}"))?;
        let authority = parsed.authority().ok_or_else(|| format!("{url:?} names no host"))?;
        if parsed.scheme_str() != Some("https") || authority.as_str().contains('@') {
            return Err(format!("{url:?} is not an https:// address"));
        }
        let path = parsed.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port: authority.port_u16().unwrap_or(443), path })
    }
}

impl KeySource {
    /// # Errors
    /// In words: a setting is missing or wrong, or the certificate authorities cannot be read.
    pub(super) fn new(config: &Described<'_>) -> Result<Self, String> {
        match (config.jwks_file, config.jwks_url) {
            (Some(file), None) => Ok(Self::File(file.to_owned())),
            (None, Some(url)) => {
                let authorities = config.jwks_ca.unwrap_or_else(|| Path::new(MACHINE_AUTHORITIES));
                Ok(Self::Url { url: JwksUrl::parse(url)?, tls: client_tls(authorities)? })
            }
            _ => Err("set either jwks_file or jwks_url".to_owned()),
        }
    }

    /// The document as it is now.
    ///
    /// # Errors
    /// In words, for the log and for the caller who waited for it.
    pub(super) async fn fetch(&self) -> Result<Vec<u8>, String> {
        match self {
            Self::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || read_file(&path, MAX_DOCUMENT as u64)).await;
                read.unwrap_or_else(|stopped| Err(stopped.to_string()))
            }
            Self::Url { url, tls } => {
                let fetched = tokio::time::timeout(WITHIN, get(url, tls)).await;
                fetched.unwrap_or_else(|_elapsed| Err(format!("{} did not answer within 5 s", url.host)))
            }
        }
    }
}

/// One request, one answer of 200. No redirect is followed: the operator said whom to ask.
async fn get(url: &JwksUrl, tls: &Arc<ClientConfig>) -> Result<Vec<u8>, String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what} {}: {error}", url.host);
    let name = ServerName::try_from(url.host.clone()).map_err(|error| failed("cannot name", &error))?;
    let tcp = TcpStream::connect((url.host.as_str(), url.port)).await;
    let tcp = tcp.map_err(|error| failed("cannot connect to", &error))?;
    let stream = TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await;
    let stream = stream.map_err(|error| failed("no TLS with", &error))?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(64 * 1024)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed("no HTTP with", &error))?;
    let request = http::Request::get(&url.path)
        .header(http::header::HOST, &url.host)
        .header(http::header::ACCEPT, "application/json")
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed("no request to", &error))?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|error| failed("no answer from", &error))?;
        if answer.status() != http::StatusCode::OK {
            return Err(failed("refused by", &answer.status()));
        }
        let body = Limited::new(answer.into_body(), MAX_DOCUMENT).collect().await;
        body.map(|body| body.to_bytes().to_vec()).map_err(|error| failed("no whole answer from", &error))
    };
    let (mut exchange, connection) = (pin!(exchange), pin!(connection));
    tokio::select! {
        answer = &mut exchange => answer,
        // It has delivered what it had.
        _ended = connection => exchange.await,
    }
}

fn client_tls(authorities: &Path) -> Result<Arc<ClientConfig>, String> {
    let text = read_file(authorities, MAX_AUTHORITIES)?;
    let certificates = pem::read_certificates(&text).map_err(|error| format!("{}: {error}", authorities.display()))?;
    let mut roots = RootCertStore::empty();
    let (taken, _) = roots.add_parsable_certificates(certificates);
    if taken == 0 {
        return Err(format!("{} holds no certificate authority", authorities.display()));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn read_file(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| file.take(most + 1).read_to_end(&mut content))
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    if content.len() as u64 > most {
        return Err(format!("{} is larger than {most} bytes", path.display()));
    }
    Ok(content)
}
