//! Clients that say too much, too little, or nonsense, on every listener: they are cut or held in bounds, and others do not notice.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mayfly_rig::Rig;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::jwt;

/// How long each attack lasts.
const LASTS: Duration = Duration::from_secs(1);
/// Attackers at a time.
const ATTACKERS: usize = 4;
/// What an attack may leave behind in a daemon's memory, KiB.
const LEFT_BEHIND_KIB: u64 = 64 * 1024;

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// Says what it has to say until the other end has had enough.
type Attack = fn(&mut dyn Stream) -> io::Result<()>;

const ATTACKS: [(&str, Attack); 8] = [
    ("silence", silence),
    ("garbage", garbage),
    ("a preface, byte by byte", slowly),
    ("headers without end", continuation),
    ("streams that are reset at once", rapid_reset),
    ("pings whose answers nobody reads", pings),
    ("settings whose answers nobody reads", settings),
    ("a message of four gigabytes", huge_message),
];

#[test]
fn floods_on_every_listener_are_cut_and_others_do_not_notice() {
    let mut rig = Rig::started(&[]);
    let (workload_api, admin, nodes) = (rig.socket("a"), rig.admin_socket(), rig.issuer_address());
    rig.apply(&rig.entry("bystander", ""));
    let listeners: [(&str, u32, Dial); 3] = [
        ("Workload API", rig.agent_id("a"), Arc::new(move || unix(&workload_api))),
        ("admin socket", rig.issuer_id(), Arc::new(move || unix(&admin))),
        ("node listener", rig.issuer_id(), Arc::new(move || tls(&nodes))),
    ];
    jwt(&rig, "before").expect("the bystander is served before");
    for (listener, process, dial) in &listeners {
        for (name, attack) in ATTACKS {
            flood(&rig, &format!("{listener}, {name}"), *process, dial, attack);
        }
    }
    rig.start_agent("newcomer");
}

type Dial = Arc<dyn Fn() -> io::Result<Box<dyn Stream>> + Send + Sync>;

fn flood(rig: &Rig, name: &str, process: u32, dial: &Dial, attack: Attack) {
    let (memory, sent) = (resident_kib(process), Arc::new(AtomicU64::new(0)));
    let ended = Arc::new(AtomicBool::new(false));
    let attackers: Vec<_> = (0..ATTACKERS)
        .map(|_| {
            let (dial, ended, sent) = (Arc::clone(dial), Arc::clone(&ended), Arc::clone(&sent));
            std::thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    // Refused, cut or reset: what it wanted.
                    if let Ok(mut stream) = dial() {
                        attack(&mut *stream).ok();
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    let mut times = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < LASTS {
        // A connection of its own to the agent, and a mint at the issuer: a new audience each.
        let one = Instant::now();
        let audience = format!("{name} {}", times.len()).replace([',', ' '], "-");
        jwt(rig, &audience).unwrap_or_else(|said| panic!("{name}: {said}"));
        times.push(one.elapsed());
    }
    ended.store(true, Ordering::Relaxed);
    for attacker in attackers {
        attacker.join().unwrap();
    }
    times.sort();
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    let sent = sent.load(Ordering::Relaxed);
    eprintln!("{name}, {sent} times: bystanders p50 {p50:?}, p99 {p99:?} over {}", times.len());
    assert!(sent > 0, "{name}: no attack took place");
    let left = resident_kib(process).saturating_sub(memory);
    assert!(left < LEFT_BEHIND_KIB, "{name}: {left} KiB of memory were left behind");
}

fn resident_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the daemon still runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn unix(path: &PathBuf) -> io::Result<Box<dyn Stream>> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    Ok(Box::new(stream))
}

fn tls(address: &str) -> io::Result<Box<dyn Stream>> {
    let tcp = TcpStream::connect(address)?;
    tcp.set_read_timeout(Some(Duration::from_secs(1)))?;
    tcp.set_write_timeout(Some(Duration::from_secs(1)))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let believes = Arc::new(Believes(provider));
    let mut config = config.unwrap().dangerous().with_custom_certificate_verifier(believes).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from("issuer.invalid").unwrap();
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), tcp);
    stream.flush()?;
    Ok(Box::new(stream))
}

fn silence(stream: &mut dyn Stream) -> io::Result<()> {
    stream.read_exact(&mut [0; 1 << 10])
}

fn garbage(stream: &mut dyn Stream) -> io::Result<()> {
    let mut bytes = [0; 1 << 14];
    for (n, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::try_from(n * 31 % 251).unwrap();
    }
    for _ in 0..64 {
        stream.write_all(&bytes)?;
    }
    stream.read_exact(&mut bytes)
}

fn slowly(stream: &mut dyn Stream) -> io::Result<()> {
    for byte in PREFACE {
        stream.write_all(&[*byte])?;
        stream.flush()?;
        std::thread::sleep(Duration::from_millis(40));
    }
    stream.read_exact(&mut [0; 1 << 10])
}

fn continuation(stream: &mut dyn Stream) -> io::Result<()> {
    begin(stream)?;
    frame(stream, HEADERS, 0, 1, &request("/x"))?;
    // Literal header fields that are not indexed: a name and a value of 100 bytes each.
    let field = [&[0x00, 100][..], &[b'a'; 100], &[100], &[b'b'; 100]].concat().repeat(80);
    for _ in 0..10_000 {
        frame(stream, CONTINUATION, 0, 1, &field)?;
    }
    Ok(())
}

fn rapid_reset(stream: &mut dyn Stream) -> io::Result<()> {
    begin(stream)?;
    for n in 0..20_000_u32 {
        frame(stream, HEADERS, END_HEADERS, 2 * n + 1, &request("/SpiffeWorkloadAPI/FetchX509SVID"))?;
        frame(stream, RST_STREAM, 0, 2 * n + 1, &8_u32.to_be_bytes())?;
    }
    Ok(())
}

fn pings(stream: &mut dyn Stream) -> io::Result<()> {
    begin(stream)?;
    (0..20_000).try_for_each(|_| frame(stream, PING, 0, 0, &[7; 8]))
}

fn settings(stream: &mut dyn Stream) -> io::Result<()> {
    begin(stream)?;
    (0..20_000).try_for_each(|_| frame(stream, SETTINGS, 0, 0, &[]))
}

fn huge_message(stream: &mut dyn Stream) -> io::Result<()> {
    begin(stream)?;
    frame(stream, HEADERS, END_HEADERS, 1, &request("/mayfly.admin.v1.AdminService/ApplyEntries"))?;
    frame(stream, DATA, 0, 1, &[0, 0xff, 0xff, 0xff, 0xff])?;
    for _ in 0..1_000 {
        frame(stream, DATA, 0, 1, &[0; 1 << 14])?;
    }
    stream.read_exact(&mut [0; 1 << 10])
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
// RFC 9113 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

fn begin(stream: &mut dyn Stream) -> io::Result<()> {
    stream.write_all(PREFACE)?;
    frame(stream, SETTINGS, 0, 0, &[])
}

fn frame(stream: &mut dyn Stream, kind: u8, flags: u8, id: u32, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &id.to_be_bytes()].concat();
    stream.write_all(&[&head, payload].concat())
}

/// The header block of a gRPC call (RFC 7541, literals without indexing).
fn request(path: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    for (index, value) in [(&[0x01][..], "localhost"), (&[0x04], path), (&[0x0f, 0x10], "application/grpc")] {
        block.extend_from_slice(index);
        block.push(u8::try_from(value.len()).unwrap());
        block.extend_from_slice(value.as_bytes());
    }
    block
}

/// An attacker does not mind who the server is.
#[derive(Debug)]
struct Believes(Arc<CryptoProvider>);

impl ServerCertVerifier for Believes {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
