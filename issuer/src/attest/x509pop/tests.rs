use rcgen::{CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, SanType};

use super::*;

fn params(names: &[(DnType, &str)]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in names {
        params.distinguished_name.push(kind.clone(), *value);
    }
    params
}

fn made(params: &CertificateParams) -> Vec<u8> {
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn authority() -> mayfly_sdk::x509::Authority {
    let mut params = params(&[(DnType::CommonName, "root")]);
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    mayfly_sdk::x509::Authority::from_der(&made(&params)).unwrap()
}

fn names_of(params: &CertificateParams) -> Result<Vec<String>, Refusal> {
    let selectors = names::selectors(&made(params), &authority())?;
    let known = |selector: &&mayfly_sdk::Selector| !["ca", "serial"].contains(&selector.key());
    Ok(selectors.iter().filter(known).map(ToString::to_string).collect())
}

#[test]
fn each_name_is_a_selector_with_its_exact_value() {
    let mut params = params(&[(DnType::OrganizationName, "Example, Inc.,CN=other"), (DnType::CommonName, "web 1")]);
    let text = |text: &str| text.try_into().unwrap();
    params.subject_alt_names = vec![
        SanType::DnsName(text("Web-1.Example.org")),
        SanType::URI(text("urn:machine:1")),
        SanType::Rfc822Name(text("root@example.org")),
        SanType::IpAddress("2001:db8::1".parse().unwrap()),
        SanType::IpAddress("192.0.2.1".parse().unwrap()),
    ];
    assert_eq!(
        names_of(&params).unwrap(),
        [
            "x509pop:subject-o:Example, Inc.,CN=other",
            "x509pop:subject-cn:web 1",
            "x509pop:issuer-o:Example, Inc.,CN=other",
            "x509pop:issuer-cn:web 1",
            "x509pop:san-dns:web-1.example.org",
            "x509pop:san-uri:urn:machine:1",
            "x509pop:san-email:root@example.org",
            "x509pop:san-ip:2001:db8::1",
            "x509pop:san-ip:192.0.2.1",
        ]
    );
}

#[test]
fn a_name_that_cannot_be_a_selector_refuses_the_certificate() {
    let reason = |params: &CertificateParams| names_of(params).unwrap_err().reason;
    assert!(names_of(&params(&[])).unwrap().is_empty());
    let long = "x".repeat(513);
    for value in ["a\nb", "a\u{0}b", &long] {
        assert_eq!(reason(&params(&[(DnType::CommonName, value)])), Reason::MachineCertificateInvalid, "{value:?}");
    }
    let mut many = params(&[]);
    let name = |n: usize| SanType::DnsName(format!("n{n}.example.org").try_into().unwrap());
    many.subject_alt_names = (0..65).map(name).collect();
    assert_eq!(reason(&many), Reason::MachineCertificateInvalid);
}

#[test]
fn only_certificate_authorities_are_taken_for_authorities() {
    let pem = mayfly_sdk::pem::certificate;
    let good = pem(authority().der());
    assert_eq!(MachineAuthorities::parse(good.as_bytes()).unwrap().as_slice().len(), 1);
    let leaf = pem(&made(&params(&[(DnType::CommonName, "leaf")])));
    for bad in [leaf.clone(), good.clone() + &leaf, String::new(), "nonsense".to_owned(), good.repeat(65)] {
        assert_eq!(MachineAuthorities::parse(bad.as_bytes()).unwrap_err().reason, Reason::InvalidArgument);
    }
}

const NOW: Timestamp = Timestamp::from_unix_s(1_800_000_000);

/// A machine's certificate under an authority, and its key.
fn machine(change: impl FnOnce(&mut CertificateParams)) -> (MachineAuthorities, Bytes, mayfly_sdk::PrivateKey) {
    let mut ca = params(&[(DnType::CommonName, "root")]);
    ca.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut leaf = params(&[(DnType::CommonName, "web")]);
    leaf.serial_number = Some(vec![0x12, 0x34].into());
    change(&mut leaf);
    let der = leaf.signed_by(&key, &issuer).unwrap().der().to_vec();
    let authorities = MachineAuthorities::parse(mayfly_sdk::pem::certificate(issuer.der()).as_bytes()).unwrap();
    (authorities, der.into(), mayfly_sdk::PrivateKey::from_pkcs8(key.serialized_der()).unwrap())
}

/// A node key that was proved.
fn proven() -> ProvenKey {
    let key = mayfly_sdk::PrivateKey::generate(mayfly_sdk::KeyAlgorithm::EcP256).unwrap();
    let challenge = crate::attest::ClaimedKey::read(key.public_key().spki()).unwrap().challenge([9; 32]).unwrap();
    let message = [crate::attest::SIGNED_CONTEXT, challenge.nonce(), &[9; 32]].concat();
    challenge.verify(&key.sign(SignatureAlgorithm::EcSha256Der, &message).unwrap()).unwrap()
}

fn attest(
    authorities: &MachineAuthorities,
    der: &Bytes,
    node_key: ProvenKey,
    signature: Vec<u8>,
) -> Result<Attested, Refusal> {
    let possession = PresentedChain::read(vec![der.clone()]).unwrap().signed(signature);
    let trust_domain = "td".parse().unwrap();
    X509Pop { trust_domain: &trust_domain, authorities }.attest(possession, node_key, NOW)
}

#[test]
fn a_machine_is_who_its_certificate_says_when_its_key_signs_this_challenge() {
    let (authorities, der, key) = machine(|_| {});
    let sign = |statement: &[u8]| key.sign(SignatureAlgorithm::EcSha256Der, statement).unwrap();
    let node_key = proven();
    let statement = node_key.statement(SIGNED_CONTEXT);
    let sha256 = *node_key.sha256();
    // The context, 32 random bytes, those of the connection, and the node key.
    assert_eq!(statement.len(), SIGNED_CONTEXT.len() + 96);
    assert!(statement.starts_with(SIGNED_CONTEXT) && statement.ends_with(&[&[9; 32][..], &sha256].concat()));
    let attested = attest(&authorities, &der, node_key, sign(&statement)).unwrap();
    let fingerprint = hex::encode(crate::mint::sha256(&[&der]));
    assert_eq!(attested.spiffe_id.as_str(), format!("spiffe://td/mayfly/node/x509pop/{fingerprint}"));
    let anchor = hex::encode(crate::mint::sha256(&[authorities.as_slice()[0].der()]));
    let selectors: Vec<_> = attested.selectors.iter().map(ToString::to_string).collect();
    assert_eq!(
        selectors,
        [
            "node:attestor:x509pop".to_owned(),
            format!("node:id:{fingerprint}"),
            format!("x509pop:ca:{anchor}"),
            "x509pop:serial:1234".to_owned(),
            "x509pop:subject-cn:web".to_owned(),
            "x509pop:issuer-cn:root".to_owned(),
        ]
    );
    let refused = |signature| attest(&authorities, &der, proven(), signature).unwrap_err().reason;
    assert_eq!(refused(sign(&statement)), Reason::SignatureInvalid, "the challenge of another connection");
    let node_key = proven();
    let signature = sign(&node_key.statement(SIGNED_CONTEXT));
    let (others, ..) = machine(|_| {});
    let refusal = attest(&others, &der, node_key, signature).unwrap_err();
    assert_eq!(refusal.reason, Reason::MachineCertificateUntrusted);
}

#[test]
fn a_certificate_that_is_no_machines_is_invalid_and_not_only_untrusted() {
    for change in [
        (|it| it.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained)) as fn(&mut CertificateParams),
        |it| it.key_usages = vec![rcgen::KeyUsagePurpose::KeyEncipherment],
        |it| it.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth],
        |it| it.not_after = rcgen::date_time_ymd(2020, 1, 1),
        |it| it.not_before = rcgen::date_time_ymd(2090, 1, 1),
    ] {
        let (authorities, der, key) = machine(change);
        let node_key = proven();
        let signature = key.sign(SignatureAlgorithm::EcSha256Der, &node_key.statement(SIGNED_CONTEXT)).unwrap();
        let refusal = attest(&authorities, &der, node_key, signature).unwrap_err();
        assert_eq!(refusal.reason, Reason::MachineCertificateInvalid, "{}", refusal.what);
    }
}

#[test]
fn a_chain_is_bounded_before_anything_of_it_is_read() {
    let read = |certificates: Vec<Bytes>| PresentedChain::read(certificates).err().map(|refusal| refusal.what);
    let (_, der, _) = machine(|_| {});
    assert_eq!(read(vec![der.clone(); 4]), None);
    assert!(read(vec![der.clone(); 5]).unwrap().contains("at most"));
    assert!(read(Vec::new()).is_some());
    assert!(read(vec![der.clone(), Bytes::from_static(b"nonsense")]).is_some());
    // Of exactly the bound it is looked at, and is no certificate.
    let zeros = |len: usize| read(vec![Bytes::from(vec![0; len])]).unwrap();
    assert!(!zeros(48 * 1024).contains("at most") && zeros(48 * 1024 + 1).contains("at most"));
    fuzz_machine_chain(&der);
}

/// A public key of RSA, of which no private key is known.
struct Rsa(Vec<u8>);

impl rcgen::PublicKeyData for Rsa {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}

#[test]
fn a_key_of_rsa_is_read_up_to_its_bound() {
    let mut ca = params(&[(DnType::CommonName, "root")]);
    ca.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::CertifiedIssuer::self_signed(ca.clone(), KeyPair::generate().unwrap()).unwrap();
    let with = |modulus: &[u8]| {
        let len = u16::try_from(modulus.len()).unwrap();
        let mut key = vec![0x30, 0x82];
        key.extend((len + 9).to_be_bytes());
        key.extend([0x02, 0x82]);
        key.extend(len.to_be_bytes());
        key.extend(modulus);
        key.extend([0x02, 0x03, 1, 0, 1]);
        ca.signed_by(&Rsa(key), &issuer).unwrap().der().to_vec()
    };
    let good = with(&[&[0][..], &[0xff; 512]].concat());
    let large = with(&[&[1][..], &[0xff; 512]].concat());
    assert!(PresentedChain::read(vec![good.clone().into()]).is_ok());
    assert!(PresentedChain::read(vec![large.clone().into()]).is_err());
    let authorities = |der: &[u8]| MachineAuthorities::parse(mayfly_sdk::pem::certificate(der).as_bytes());
    assert!(authorities(&good).is_ok() && authorities(&large).is_err());
    assert!(authorities(authority().der()).is_ok());
    let sixty_four = mayfly_sdk::pem::certificate(&good).repeat(64);
    assert_eq!(MachineAuthorities::parse(sixty_four.as_bytes()).unwrap().as_slice().len(), 64);
    assert_eq!(algorithm(KeyType::Rsa), SignatureAlgorithm::RsaPssSha256);
}

#[test]
fn a_file_of_authorities_is_read_up_to_its_bound() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    let refused = |len: usize| {
        let mut text = mayfly_sdk::pem::certificate(authority().der()).into_bytes();
        text.resize(len.max(text.len()), b'\n');
        std::fs::write(&path, text).unwrap();
        MachineAuthorities::read(&path).err().map(|refusal| refusal.reason)
    };
    assert_eq!(MachineAuthorities::read(&path).unwrap_err().reason, Reason::InvalidArgument);
    assert_eq!((refused(0), refused(1024 * 1024)), (None, None));
    assert_eq!(refused(1024 * 1024 + 1), Some(Reason::InvalidArgument));
}

#[test]
fn names_are_counted_and_measured_exactly() {
    let value = "x".repeat(512);
    assert!(names_of(&params(&[(DnType::CommonName, &value)])).is_ok());
    let with = |count: usize| {
        let mut many = params(&[]);
        let name = |n: usize| SanType::DnsName(format!("n{n}.example.org").try_into().unwrap());
        many.subject_alt_names = (0..count).map(name).collect();
        names_of(&many).map(|names| names.len()).ok()
    };
    // Two are the authority and the serial number.
    assert_eq!((with(62), with(63)), (Some(62), None));
}
