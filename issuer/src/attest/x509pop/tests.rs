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
