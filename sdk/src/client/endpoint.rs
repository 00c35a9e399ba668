//! Where the Workload API is.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::{Channel, Uri};
use tower::service_fn;

use crate::reason::{Reason, Refusal};

/// The environment variable that names the Workload API's address (Workload Endpoint 4).
const ENVIRONMENT: &str = "SPIFFE_ENDPOINT_SOCKET";

/// The longest path of a Unix socket that Linux binds or connects to, in bytes.
const MAX_SOCKET_PATH: usize = 107;

/// How long a connection to the socket may take. It is local: it takes microseconds or fails.
const CONNECT: std::time::Duration = std::time::Duration::from_secs(5);

/// The address of a Workload API: `unix:///absolute/path` or `tcp://IP:port` (Workload Endpoint 4; rows WE-12 to WE-14).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint(Address);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Address {
    Unix(Arc<PathBuf>),
    Tcp(SocketAddr),
}

impl Endpoint {
    /// The address in `SPIFFE_ENDPOINT_SOCKET`.
    ///
    /// # Errors
    /// `endpoint_invalid` when the variable is not set, or holds something else.
    pub fn from_env() -> Result<Self, Refusal> {
        Self::explicit_or_env(None)
    }

    /// This address if there is one, else the one in `SPIFFE_ENDPOINT_SOCKET` (row WE-12).
    ///
    /// # Errors
    /// `endpoint_invalid` when there is neither, or the one that counts is malformed.
    pub fn explicit_or_env(explicit: Option<&str>) -> Result<Self, Refusal> {
        #[expect(clippy::disallowed_methods, reason = "the standard says that clients read this variable")]
        let from_env = || std::env::var(ENVIRONMENT);
        match explicit {
            Some(address) => address.parse(),
            None => match from_env() {
                Ok(address) => address.parse(),
                Err(error) => Err(invalid(&format!("{ENVIRONMENT}: {error}"))),
            },
        }
    }

    /// A channel that is connected at its first call, and again whenever it broke.
    pub(super) fn lazy_channel(&self) -> Channel {
        match &self.0 {
            Address::Unix(path) => {
                let path = Arc::clone(path);
                http2().connect_with_connector_lazy(service_fn(move |_: Uri| {
                    let path = Arc::clone(&path);
                    async move { UnixStream::connect(path.as_path()).await.map(TokioIo::new) }
                }))
            }
            Address::Tcp(address) => {
                let address = *address;
                http2().connect_with_connector_lazy(service_fn(move |_: Uri| async move {
                    TcpStream::connect(address).await.map(TokioIo::new)
                }))
            }
        }
    }
}

impl FromStr for Endpoint {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        if let Some(rest) = text.strip_prefix("unix:") {
            return Ok(Self(Address::Unix(Arc::new(socket_path(text, rest)?))));
        }
        if let Some(rest) = text.strip_prefix("tcp://") {
            // An IP literal and a port, and not a byte more: names and zones are refused by the parser of addresses.
            return match rest.parse::<SocketAddr>() {
                Ok(address) if address.port() != 0 && !rest.contains('%') => Ok(Self(Address::Tcp(address))),
                _ => Err(invalid(&format!("`{text}` is not tcp://IP:port"))),
            };
        }
        Err(invalid(&format!("`{text}` begins neither with unix: nor with tcp://")))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
            Address::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// The path of `unix:/path` or `unix:///path`: absolute, without authority, query and fragment, percent-decoded.
fn socket_path(text: &str, rest: &str) -> Result<PathBuf, Refusal> {
    let refused = |why: &str| invalid(&format!("`{text}`: {why}"));
    let path = match rest.strip_prefix("//") {
        Some(path) if path.starts_with('/') => path,
        Some(_) => return Err(refused("a Unix socket has no host: write unix:///absolute/path")),
        None => rest,
    };
    if !path.starts_with('/') || path.starts_with("//") || path == "/" {
        return Err(refused("the path must be absolute: write unix:///absolute/path"));
    }
    if path.contains(['?', '#']) {
        return Err(refused("an address has neither a query nor a fragment"));
    }
    let path = percent_decoded(path).ok_or_else(|| refused("a percent sign must begin %XX, and not %00"))?;
    if path.len() > MAX_SOCKET_PATH {
        return Err(refused("the path of a Unix socket has at most 107 bytes"));
    }
    Ok(PathBuf::from(path))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let value = digit(bytes.next())? * 16 + digit(bytes.next())?;
                u8::try_from(value).ok()?
            }
            plain => plain,
        });
    }
    if decoded.contains(&0) {
        return None;
    }
    String::from_utf8(decoded).ok()
}

/// HTTP/2 without a name to send: the `:authority` is `localhost`, which every server accepts.
fn http2() -> tonic::transport::Endpoint {
    tonic::transport::Endpoint::from_static("http://localhost").connect_timeout(CONNECT)
}

fn invalid(what: &str) -> Refusal {
    Refusal::new(Reason::EndpointInvalid, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows: WE-13, WE-14.
    #[test]
    fn addresses_of_the_standard_are_read() {
        for (text, shown) in [
            ("unix:///run/mayfly/agent/api.sock", "unix:///run/mayfly/agent/api.sock"),
            ("unix:/run/api.sock", "unix:///run/api.sock"),
            ("unix:///run/a%20b.sock", "unix:///run/a b.sock"),
            ("tcp://127.0.0.1:8000", "tcp://127.0.0.1:8000"),
            ("tcp://[::1]:8000", "tcp://[::1]:8000"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), shown);
        }
    }

    /// Rows: WE-13, WE-14.
    #[test]
    fn everything_else_is_refused() {
        let long = format!("unix:///{}", "a".repeat(MAX_SOCKET_PATH));
        for text in [
            "",
            "/run/api.sock",
            "http://127.0.0.1:8000",
            "UNIX:///run/api.sock",
            "unix:",
            "unix:run/api.sock",
            "unix://",
            "unix:///",
            "unix:////run/api.sock",
            "unix://run/api.sock",
            "unix://user@/run/api.sock",
            "unix://localhost/run/api.sock",
            "unix:///run/api.sock?x=1",
            "unix:///run/api.sock#x",
            "unix:///run/%00",
            "unix:///run/%zz",
            "unix:///run/%2",
            "unix:///run/%+1",
            &long,
            "tcp://localhost:8000",
            "tcp://127.0.0.1",
            "tcp://127.0.0.1:",
            "tcp://127.0.0.1:0",
            "tcp://127.0.0.1:8000/",
            "tcp://127.0.0.1:8000/foo",
            "tcp://user@127.0.0.1:8000",
            "tcp://127.0.0.1:8000?x",
            "tcp:127.0.0.1:8000",
            "tcp://::1:8000",
            "tcp://[fe80::1%1]:80",
            "tcp://127.0.0.1:80000",
            " tcp://127.0.0.1:8000",
        ] {
            let refusal = text.parse::<Endpoint>().expect_err(text);
            assert_eq!(refusal.reason, Reason::EndpointInvalid, "{text}");
        }
    }

    #[test]
    fn an_explicit_address_wins_over_the_environment() {
        let explicit = Endpoint::explicit_or_env(Some("tcp://127.0.0.1:1")).unwrap();
        assert_eq!(explicit.to_string(), "tcp://127.0.0.1:1");
        // Cargo's tests run without the variable.
        assert_eq!(Endpoint::from_env().unwrap_err().reason, Reason::EndpointInvalid);
    }
}
