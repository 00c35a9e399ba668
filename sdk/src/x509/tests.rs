use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType};

use super::fixture::{Domain, Made, NOW, at, bundle, ca, extension, leaf, self_signed, signed, signed_with, uri};
use super::*;
use crate::key::{KeyAlgorithm, PrivateKey};
use crate::time::Ttl;

mod bytes;
mod clients;
mod constraints;
mod paths;

const ID: &str = "spiffe://td/a";
const SAN_OID: &[u64] = &[2, 5, 29, 17];

/// A good leaf with one thing changed.
fn changed(change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = leaf(ID);
    change(&mut params);
    params
}

fn refused(params: CertificateParams) -> X509Error {
    Domain::new().verdict(params).unwrap_err()
}

/// Rows: ID-22, X-24.
#[test]
fn a_good_chain_is_believed_and_says_what_it_says() {
    let domain = Domain::new();
    let made = signed(leaf(ID), &domain.intermediate);
    let peer = verify(&[&made.der, &domain.intermediate.der], &domain.bundles, NOW, Usage::Any).unwrap();
    assert_eq!((peer.spiffe_id().as_str(), peer.trust_domain().as_str()), (ID, "td"));
    assert_eq!(peer.public_key(), made.private_key().public_key());
    assert_eq!(peer.validity().not_after().unix_s(), NOW.unix_s() + 3600);
    assert_eq!(peer.certificate().as_ref(), made.der);
    // The root in the chain changes nothing.
    let chain = [&made.der, &domain.intermediate.der, &domain.root.der];
    assert!(verify(&chain, &domain.bundles, NOW, Usage::Client).is_ok());
    // rows: X-24
    let named = changed(|params| params.subject_alt_names.push(SanType::DnsName("other.host".try_into().unwrap())));
    assert!(domain.verdict(named).is_ok());
}

/// Rows: ID-10, ID-12.
#[test]
fn a_long_id_comes_through_and_a_longer_one_does_not() {
    // rows: ID-10, ID-12
    let longest = format!("spiffe://td/{}", "a".repeat(2036));
    let peer = Domain::new().verdict(leaf(&longest)).unwrap();
    assert_eq!(peer.spiffe_id().as_str(), longest);
    assert_eq!(refused(leaf(&format!("{longest}a"))), X509Error::BadSpiffeId(IdError::TooLong));
}

/// Rows.
#[test]
fn a_leaf_has_exactly_one_uri_and_it_is_that_of_a_workload() {
    assert!(Domain::new().verdict(leaf(ID)).is_ok());
    let names =
        |names: &[&str]| changed(|params| params.subject_alt_names = names.iter().map(|name| uri(name)).collect());
    // rows: X-2
    assert_eq!(refused(names(&[ID, "https://x"])), X509Error::MultipleUriSan);
    assert_eq!(refused(names(&["https://x", ID])), X509Error::MultipleUriSan);
    assert_eq!(refused(names(&[ID, ID])), X509Error::MultipleUriSan);
    // rows: X-3
    assert_eq!(refused(names(&[])), X509Error::NoUriSan);
    let dns_only = changed(|params| params.subject_alt_names = vec![SanType::DnsName("td".try_into().unwrap())]);
    assert_eq!(refused(dns_only), X509Error::NoUriSan);
    // rows: X-18
    assert_eq!(refused(names(&["https://td/a"])), X509Error::BadSpiffeId(IdError::WrongScheme));
    assert_eq!(refused(names(&["spiffe://TD/a"])), X509Error::BadSpiffeId(IdError::BadTrustDomainChar));
    assert_eq!(refused(names(&["spiffe://td/a/"])), X509Error::BadSpiffeId(IdError::TrailingSlash));
    // rows: X-6
    assert_eq!(refused(leaf("spiffe://td")), X509Error::RootId);
    // rows: X-4
    let san = [0x30, 0x0f, 0x86, 0x0d].iter().copied().chain(ID.bytes()).collect::<Vec<u8>>();
    let twice = changed(|params| params.custom_extensions = vec![extension(SAN_OID, false, &san)]);
    assert_eq!(refused(twice), X509Error::DuplicateExtension);
    let crafted = changed(|params| {
        params.subject_alt_names.clear();
        params.custom_extensions = vec![extension(SAN_OID, false, &san)];
    });
    assert!(Domain::new().verdict(crafted).is_ok(), "the crafted extension is a good one when it stands alone");
}

/// Rows: X-2.
#[test]
fn a_name_that_cannot_be_read_might_be_a_uri() {
    // rows: X-2
    let mut san = vec![0x30, 0x12, 0x86, 0x0d];
    san.extend(ID.bytes());
    san.extend([0x86, 0x01, 0xff]);
    let crafted = changed(|params| {
        params.subject_alt_names.clear();
        params.custom_extensions = vec![extension(SAN_OID, false, &san)];
    });
    assert_eq!(refused(crafted), X509Error::Malformed);
}

/// Rows.
#[test]
fn an_authority_never_authenticates_a_peer() {
    // rows
    assert_eq!(
        refused(changed(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))),
        X509Error::LeafIsAuthority
    );
    for usage in [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign] {
        assert_eq!(refused(changed(|params| params.key_usages.push(usage))), X509Error::LeafIsAuthority);
    }
    let domain = Domain::new();
    let chain = [&domain.intermediate.der];
    assert_eq!(verify(&chain, &domain.bundles, NOW, Usage::Server).unwrap_err(), X509Error::LeafIsAuthority);
    // An anchor that is a leaf does not vouch for itself.
    let own = self_signed(leaf(ID));
    let bundles = bundle("td", &[&own]).into();
    assert_eq!(verify(&[&own.der], &bundles, NOW, Usage::Server).unwrap_err(), X509Error::NotAnAuthority);
}

/// Rows: X-19.
#[test]
fn a_leaf_may_sign_handshakes() {
    // rows: X-19
    assert_eq!(refused(changed(|params| params.key_usages.clear())), X509Error::LeafKeyUsage);
    let other = changed(|params| params.key_usages = vec![KeyUsagePurpose::KeyAgreement]);
    assert_eq!(refused(other), X509Error::LeafKeyUsage);
    let more = changed(|params| params.key_usages.push(KeyUsagePurpose::KeyEncipherment));
    assert!(Domain::new().verdict(more).is_ok());
    // Basic constraints are false when they are absent.
    assert!(Domain::new().verdict(changed(|params| params.is_ca = IsCa::NoCa)).is_ok());
}

/// Rows: X-20.
#[test]
fn an_extended_key_usage_is_that_of_the_role() {
    // rows: X-20
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, CodeSigning, ServerAuth};
    let domain = Domain::new();
    for (purposes, server, client, any) in [
        (vec![], true, true, true),
        (vec![ServerAuth, ClientAuth], true, true, true),
        (vec![ServerAuth], true, false, false),
        (vec![ClientAuth, CodeSigning], false, true, false),
        (vec![CodeSigning], false, false, false),
        (vec![Any], false, false, false),
    ] {
        for (usage, allowed) in [(Usage::Server, server), (Usage::Client, client), (Usage::Any, any)] {
            let verdict = domain.verdict_as(changed(|params| params.extended_key_usages = purposes.clone()), usage);
            let expected = if allowed { Ok(()) } else { Err(X509Error::ExtendedKeyUsage) };
            assert_eq!(verdict.map(|_| ()), expected, "{purposes:?} as {usage:?}");
        }
    }
}

/// Rows: X-17.
#[test]
fn a_leaf_counts_only_in_its_time() {
    // rows: X-17
    let domain = Domain::new();
    let times = |from, until| changed(|params| (params.not_before, params.not_after) = (at(from), at(until)));
    assert!(domain.verdict(times(0, 0)).is_ok());
    assert_eq!(domain.verdict(times(1, 100)).unwrap_err(), X509Error::NotYetValid);
    assert_eq!(domain.verdict(times(-100, -1)).unwrap_err(), X509Error::Expired);
}

/// Rows: X-17.
#[test]
fn critical_extensions_are_understood_or_refused() {
    // rows: X-17
    let unknown =
        |critical| changed(|params| params.custom_extensions = vec![extension(&[1, 2, 3], critical, b"\x05\x00")]);
    assert!(Domain::new().verdict(unknown(false)).is_ok());
    assert_eq!(refused(unknown(true)), X509Error::CriticalExtension);
}

/// RSA with 1024 bits, which nobody here makes any more.
struct Weak(Vec<u8>);

impl rcgen::PublicKeyData for Weak {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}

#[test]
fn a_weak_or_unknown_key_is_refused() {
    let domain = Domain::new();
    let with = |key| {
        let made = signed_with(leaf(ID), &domain.intermediate, key);
        verify(&[&made.der, &domain.intermediate.der], &domain.bundles, NOW, Usage::Any).map(|_| ())
    };
    assert_eq!(with(KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap()), Ok(()));
    assert_eq!(with(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap()), Ok(()));
    let numbers = [crate::der::unsigned(&[0xc1; 128]), crate::der::unsigned(&[1, 0, 1])].concat();
    let by = rcgen::Issuer::from_params(&domain.intermediate.params, &domain.intermediate.key);
    let weak = leaf(ID).signed_by(&Weak(crate::der::element(0x30, &numbers)), &by).unwrap();
    let chain = [weak.der().as_ref(), &domain.intermediate.der];
    assert_eq!(verify(&chain, &domain.bundles, NOW, Usage::Any).unwrap_err(), X509Error::Key);
}

#[test]
fn an_svid_of_ones_own_is_a_leaf_its_authorities_and_its_key() {
    let domain = Domain::new();
    let made = signed(leaf(ID), &domain.intermediate);
    let chain = [&*made.der, &*domain.intermediate.der].concat();
    let key = made.key.serialize_der();
    let svid = X509Svid::from_der(&chain, &key).unwrap();
    assert_eq!((svid.spiffe_id().as_str(), svid.chain().len()), (ID, 2));
    assert_eq!((svid.chain_der(), svid.key().expose_pkcs8()), (chain.clone(), &*key));
    assert_eq!(crate::pem::read_certificates(svid.chain_pem().as_bytes()).unwrap(), svid.chain());

    let other = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    assert_eq!(X509Svid::from_der(&chain, other.expose_pkcs8()).unwrap_err(), X509Error::KeyMismatch);
    assert_eq!(X509Svid::from_der(&chain, b"x").unwrap_err(), X509Error::Key);
    assert_eq!(X509Svid::from_der(&[], &key).unwrap_err(), X509Error::NoCertificate);
    assert_eq!(X509Svid::from_der(&chain[1..], &key).unwrap_err(), X509Error::Malformed);
    let twice = [&*made.der, &*made.der].concat();
    assert_eq!(X509Svid::from_der(&twice, &key).unwrap_err(), X509Error::NotAnAuthority);
    let authority = domain.intermediate.key.serialize_der();
    assert_eq!(X509Svid::from_der(&domain.intermediate.der, &authority).unwrap_err(), X509Error::LeafIsAuthority);
    let long = [&made.der[..], &domain.intermediate.der.repeat(MAX_CHAIN)].concat();
    assert_eq!(X509Svid::from_der(&long, &key).unwrap_err(), X509Error::ChainTooLong);
    assert!(format!("{svid:?}").len() < 100);
}

#[test]
fn a_certificate_is_read_field_by_field() {
    let domain = Domain::new();
    let params = changed(|params| {
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&[0x01, 0x99, 3]));
        params.subject_alt_names.push(SanType::DnsName("a.example".try_into().unwrap()));
    });
    let made = signed(params, &domain.intermediate);
    let read = Certificate::parse(&made.der).unwrap();
    assert_eq!(read.serial(), [0x01, 0x99, 3]);
    assert_eq!(read.uri_names().collect::<Vec<_>>(), [ID]);
    assert_eq!(read.dns_names().collect::<Vec<_>>(), ["a.example"]);
    assert_eq!(read.validity().lifetime(), Ttl::from_s(3660));
    assert_eq!((read.basic_constraints_ca(), read.path_len()), (Some(false), None));
    let usage = read.key_usage().unwrap();
    assert!(usage.is_digital_signature_only() && usage.is_critical());
    assert_eq!(read.extended_key_usage(), Some((true, true)));
    let issuer = Certificate::parse(&domain.intermediate.der).unwrap();
    assert_eq!(read.issuer_der(), issuer.subject_der());
    assert_eq!(read.authority_key_id(), issuer.subject_key_id());
    assert!(read.authority_key_id().is_some());
    assert_eq!(read.public_key().unwrap().spki(), made.private_key().public_key_spki());
    assert!(read.verify_signature(&issuer.public_key().unwrap()).is_ok());
    assert_eq!(read.verify_signature(&read.public_key().unwrap()), Err(X509Error::BadSignature));
    assert!(!read.has_empty_subject());
}

/// For the submodules.
fn chain_verdict(chain: &[&Made], bundles: &X509BundleSet) -> Result<(), X509Error> {
    let chain: Vec<_> = chain.iter().map(|made| &made.der).collect();
    verify(&chain, bundles, NOW, Usage::Server).map(|_| ())
}

#[test]
fn what_a_key_usage_says_is_told_as_it_is() {
    let usage = |params: CertificateParams| Certificate::parse(&self_signed(params).der).unwrap().key_usage().unwrap();
    let only = usage(leaf(ID));
    assert!(only.is_digital_signature_only() && only.is_critical());
    let more = changed(|params| params.key_usages.push(KeyUsagePurpose::KeyAgreement));
    assert!(
        usage(more).digital_signature()
            && !usage(changed(|params| params.key_usages = vec![KeyUsagePurpose::KeyAgreement])).digital_signature()
    );
    let lax = changed(|params| {
        params.key_usages.clear();
        params.custom_extensions = vec![extension(&[2, 5, 29, 15], false, b"\x03\x02\x06\xc0")];
    });
    let lax = usage(lax);
    assert!(lax.digital_signature() && !lax.is_digital_signature_only() && !lax.is_critical());
}

#[test]
fn each_refusal_of_a_chain_has_its_reason() {
    for (error, reason) in [
        (X509Error::Expired, Reason::Expired),
        (X509Error::NotYetValid, Reason::NotYetValid),
        (X509Error::NoBundle, Reason::UnknownTrustDomain),
        (X509Error::BadSignature, Reason::X509SvidUntrusted),
        (X509Error::Malformed, Reason::X509SvidInvalid),
    ] {
        assert_eq!(error.reason(), reason, "{error}");
    }
}

#[test]
fn only_sequences_are_split_off() {
    let split = |der: &'static [u8]| split_certificates(der).collect::<Vec<_>>();
    assert_eq!(split(b"\x30\x00\x30\x01\xff"), [Ok(&b"\x30\x00"[..]), Ok(&b"\x30\x01\xff"[..])]);
    assert_eq!(split(b"\x31\x00"), [Err(X509Error::Malformed)]);
    assert_eq!(split(b"\x30\x02\x00"), [Err(X509Error::Malformed)]);
}

#[test]
fn a_chain_of_the_greatest_length_is_an_svid_and_each_link_of_it_an_authority() {
    let domain = Domain::new();
    let made = signed(leaf(ID), &domain.intermediate);
    let with = |links: &[&Made]| {
        let chain = std::iter::once(&made).chain(links.iter().copied());
        let chain = chain.map(|made| CertificateDer::from(made.der.clone())).collect();
        X509Svid::new(chain, made.private_key()).map(|_| ())
    };
    assert_eq!(with(&[&domain.intermediate; MAX_CHAIN - 1]), Ok(()));
    assert_eq!(with(&[&domain.intermediate; MAX_CHAIN]), Err(X509Error::ChainTooLong));
    let mut mute = ca("mute");
    mute.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let mut denying = ca("denying");
    denying.is_ca = IsCa::ExplicitNoCa;
    for params in [mute, denying] {
        let link = signed(params, &domain.root);
        assert_eq!(with(&[&link]), Err(X509Error::NotAnAuthority));
    }
}

#[test]
fn an_algorithm_has_one_spelling() {
    let rsa = |parameters: &[u8]| {
        signature::algorithm(&[b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b", parameters].concat())
    };
    assert_eq!(rsa(&[0x05, 0x00]), Some(crate::key::SignatureAlgorithm::RsaPkcs1Sha256));
    for parameters in [&[][..], &[0x05, 0x01, 0x00], &[0x25, 0x00], &[0x04, 0x00], &[0x30, 0x00], &[0x05, 0x00, 0x00]] {
        assert_eq!(rsa(parameters), None, "{parameters:02x?}");
    }
    let ec =
        |parameters: &[u8]| signature::algorithm(&[b"\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02", parameters].concat());
    assert!(ec(&[]).is_some() && ec(&[0x05, 0x00]).is_none());
    assert_eq!(signature::algorithm(&[]), None);
}
