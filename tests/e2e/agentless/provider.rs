//! An identity provider such as that of a CI system: it signs tokens, also bad ones, and publishes its keys.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mayfly_sdk::{Clock, KeyAlgorithm, PrivateKey, SignatureAlgorithm, jwk};
use serde_json::{Map, Value, json};

/// One identity provider with one key.
pub(crate) struct IdentityProvider {
    pub(crate) issuer: String,
    pub(crate) key_id: String,
    pub(crate) key: PrivateKey,
}

impl IdentityProvider {
    pub(crate) fn new(name: &str) -> Self {
        Self::with_key(name, "key-1", KeyAlgorithm::EcP256)
    }

    pub(crate) fn with_key(name: &str, key_id: &str, algorithm: KeyAlgorithm) -> Self {
        let key = PrivateKey::generate(algorithm).unwrap();
        Self { issuer: format!("https://{name}.example"), key_id: key_id.into(), key }
    }

    /// Its key as it publishes it.
    pub(crate) fn jwk(&self) -> Map<String, Value> {
        let mut members = jwk::members(self.key.public_key());
        members.insert("kid".into(), self.key_id.clone().into());
        members.insert("use".into(), "sig".into());
        members
    }

    pub(crate) fn jwks(&self) -> String {
        json!({ "keys": [self.jwk()] }).to_string()
    }

    pub(crate) fn jwks_file(&self, dir: &Path, name: &str) -> PathBuf {
        let path = dir.join(format!("{name}.jwks"));
        std::fs::write(&path, self.jwks()).unwrap();
        path
    }

    /// The claims of a good token, each time with another id.
    pub(crate) fn claims(&self) -> Map<String, Value> {
        static TOKENS: AtomicU64 = AtomicU64::new(0);
        let now = Clock::system().now().unix_s();
        let claims = json!({
            "iss": self.issuer,
            "sub": "repo:example/shop:ref:main",
            "aud": "test.example",
            "iat": now,
            "nbf": now,
            "exp": now + 300,
            "jti": format!("id-{}", TOKENS.fetch_add(1, Ordering::Relaxed)),
            "repository": "shop",
        });
        claims.as_object().unwrap().clone()
    }

    pub(crate) fn header(&self) -> Value {
        let alg = match self.key.public_key().key_type() {
            mayfly_sdk::key::KeyType::Rsa => "RS256",
            mayfly_sdk::key::KeyType::EcP384 => "ES384",
            _ => "ES256",
        };
        json!({ "alg": alg, "kid": self.key_id, "typ": "JWT" })
    }

    /// A good token.
    pub(crate) fn token(&self) -> String {
        self.token_with(|_| {})
    }

    /// A token whose claims were changed before it was signed.
    pub(crate) fn token_with(&self, change: impl FnOnce(&mut Map<String, Value>)) -> String {
        let mut claims = self.claims();
        change(&mut claims);
        self.sign(&self.header(), &Value::Object(claims).to_string())
    }

    /// A token whose header was changed before it was signed.
    pub(crate) fn token_headed(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut header = self.header();
        change(&mut header);
        self.sign(&header, &Value::Object(self.claims()).to_string())
    }

    /// Signs whatever it is, by this key.
    pub(crate) fn sign(&self, header: &Value, payload: &str) -> String {
        let input = format!("{}.{}", encode(header.to_string().as_bytes()), encode(payload.as_bytes()));
        let algorithm = match self.key.public_key().key_type() {
            mayfly_sdk::key::KeyType::Rsa => SignatureAlgorithm::RsaPkcs1Sha256,
            mayfly_sdk::key::KeyType::EcP384 => SignatureAlgorithm::EcP384Sha384Fixed,
            _ => SignatureAlgorithm::EcP256Sha256Fixed,
        };
        let signature = self.key.sign(algorithm, input.as_bytes()).unwrap();
        format!("{input}.{}", encode(&signature))
    }
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What an address answers.
#[derive(Clone)]
pub(crate) enum Answer {
    /// This document.
    Document(String),
    /// This status line and header, and a document that must not be taken.
    Status(&'static str, String),
    /// A byte now and then, for ever.
    Drip,
    /// More and more of a document that does not end.
    Flood,
    /// Nothing: the connection ends.
    Hangup,
}

/// An address that answers over TLS, by a certificate of an authority of its own.
pub(crate) struct Address {
    pub(crate) url: String,
    pub(crate) authority: PathBuf,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<AtomicU32>,
    closed: Arc<AtomicU32>,
    port: std::net::SocketAddr,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Address {
    pub(crate) fn serve(ip: &str, dir: &Path, name: &str, answer: Answer) -> Self {
        let mut params = rcgen::CertificateParams::new(vec![ip.to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::ExplicitNoCa;
        let mut ca = rcgen::CertificateParams::default();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let (ca_key, key) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
        let ca_der = ca.self_signed(&ca_key).unwrap();
        let leaf = params.signed_by(&key, &rcgen::Issuer::from_params(&ca, &ca_key)).unwrap();
        let authority = dir.join(format!("{name}-ca.pem"));
        std::fs::write(&authority, mayfly_sdk::pem::certificate(ca_der.der())).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key.serialize_der().try_into().unwrap())
            .unwrap();

        let listener = TcpListener::bind((ip, 0)).unwrap();
        let port = listener.local_addr().unwrap();
        let (answer, asked) = (Arc::new(Mutex::new(answer)), Arc::new(AtomicU32::new(0)));
        let closed = Arc::new(AtomicU32::new(0));
        let thread = {
            let (answer, asked, closed) = (Arc::clone(&answer), Arc::clone(&asked), Arc::clone(&closed));
            std::thread::spawn(move || accept(&listener, &Arc::new(config), &answer, &asked, &closed))
        };
        let url = format!("https://{port}/keys");
        Self { url, authority, answer, asked, closed, port, thread: Some(thread) }
    }

    pub(crate) fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        self.closed.store(1, Ordering::Relaxed);
        TcpStream::connect(self.port).ok();
        self.thread.take().map(std::thread::JoinHandle::join);
    }
}

fn accept(
    listener: &TcpListener,
    config: &Arc<rustls::ServerConfig>,
    answer: &Mutex<Answer>,
    asked: &AtomicU32,
    closed: &Arc<AtomicU32>,
) {
    std::thread::scope(|scope| {
        for stream in listener.incoming() {
            if closed.load(Ordering::Relaxed) > 0 {
                return;
            }
            let Ok(tcp) = stream else { continue };
            asked.fetch_add(1, Ordering::Relaxed);
            let (config, answer) = (Arc::clone(config), answer.lock().unwrap().clone());
            // Who hangs up early is no failure of the test.
            scope.spawn(move || respond(tcp, config, answer, closed).ok());
        }
    });
}

fn respond(
    tcp: TcpStream,
    config: Arc<rustls::ServerConfig>,
    answer: Answer,
    closed: &AtomicU32,
) -> std::io::Result<()> {
    tcp.set_read_timeout(Some(Duration::from_secs(10)))?;
    tcp.set_write_timeout(Some(Duration::from_secs(10)))?;
    let connection = rustls::ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = rustls::StreamOwned::new(connection, tcp);
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && request.len() < 4096 {
        stream.read_exact(&mut byte)?;
        request.extend(byte);
    }
    let whole = |status: &str, document: &str| {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{document}", document.len())
    };
    match answer {
        Answer::Document(document) => stream.write_all(whole("200 OK", &document).as_bytes())?,
        Answer::Status(status, document) => stream.write_all(whole(status, &document).as_bytes())?,
        Answer::Drip => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")?;
            while closed.load(Ordering::Relaxed) == 0 {
                stream.write_all(b" ")?;
                stream.flush()?;
                std::thread::sleep(Duration::from_millis(200));
            }
        }
        Answer::Flood => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            while closed.load(Ordering::Relaxed) == 0 {
                stream.write_all(b"1000\r\n")?;
                stream.write_all(&[b'['; 0x1000])?;
                stream.write_all(b"\r\n")?;
            }
        }
        Answer::Hangup => return Ok(()),
    }
    stream.conn.send_close_notify();
    stream.flush()
}
