//! Certificates that are no SVIDs, of clients that come with them all the same.

use super::*;
use crate::x509::{Authority, Certificate, verify_client};

/// The verdict on a leaf under root and intermediate, some seconds from now.
fn verdict_at(params: CertificateParams, seconds: i64) -> Result<(), X509Error> {
    let domain = Domain::new();
    let made = signed(params, &domain.intermediate);
    let anchors = [Authority::from_der(&domain.root.der).unwrap()];
    let intermediates = [Certificate::parse(&domain.intermediate.der).unwrap()];
    let now = Timestamp::from_unix_s(NOW.unix_s() + seconds);
    let anchor = verify_client(&Certificate::parse(&made.der).unwrap(), &intermediates, &anchors, now)?;
    assert_eq!(anchor.der().as_ref(), domain.root.der);
    Ok(())
}

/// The verdict on a good leaf that was changed.
fn client(change: impl FnOnce(&mut CertificateParams)) -> Result<(), X509Error> {
    let mut params = leaf("https://machine.example");
    change(&mut params);
    verdict_at(params, 0)
}

#[test]
fn a_client_may_say_nothing_of_its_use_but_must_not_say_another() {
    use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose as Extended, IsCa, KeyUsagePurpose as Usage};
    let usages = |usages: Vec<Usage>| client(|params| params.key_usages = usages);
    let extended = |usages: Vec<Extended>| client(|params| params.extended_key_usages = usages);
    assert_eq!(client(|_| {}), Ok(()));
    assert_eq!(client(|params| params.is_ca = IsCa::NoCa), Ok(()));
    assert_eq!(usages(vec![]), Ok(()));
    assert_eq!(usages(vec![Usage::DigitalSignature, Usage::KeyAgreement]), Ok(()));
    assert_eq!(usages(vec![Usage::KeyEncipherment]), Err(X509Error::LeafKeyUsage));
    assert_eq!(usages(vec![Usage::DigitalSignature, Usage::KeyCertSign]), Err(X509Error::LeafIsAuthority));
    assert_eq!(usages(vec![Usage::DigitalSignature, Usage::CrlSign]), Err(X509Error::LeafIsAuthority));
    assert_eq!(extended(vec![]), Ok(()));
    assert_eq!(extended(vec![Extended::ClientAuth]), Ok(()));
    assert_eq!(extended(vec![Extended::ServerAuth]), Err(X509Error::ExtendedKeyUsage));
    let authority = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert_eq!(client(authority), Err(X509Error::LeafIsAuthority));
    let silent_authority = |params: &mut CertificateParams| {
        authority(params);
        params.key_usages = vec![Usage::DigitalSignature];
    };
    assert_eq!(client(silent_authority), Err(X509Error::LeafIsAuthority));
}

#[test]
fn what_is_critical_and_not_understood_refuses_a_client() {
    let with = |oid: &'static [u64], critical, content: &'static [u8]| {
        client(move |params| params.custom_extensions = vec![extension(oid, critical, content)])
    };
    assert_eq!(with(&[1, 3, 6, 1, 4, 1, 99_999], false, b"\x05\x00"), Ok(()));
    assert_eq!(with(&[1, 3, 6, 1, 4, 1, 99_999], true, b"\x05\x00"), Err(X509Error::CriticalExtension));
    // Name constraints on a leaf, critical or not.
    let constraints = b"\x30\x0b\xa0\x09\x30\x07\x82\x05a.bcd";
    assert_eq!(with(&[2, 5, 29, 30], false, constraints), Err(X509Error::CriticalExtension));
}

#[test]
fn a_client_is_believed_from_its_first_second_to_its_last() {
    let good = || leaf("https://machine.example");
    assert_eq!(verdict_at(good(), -60), Ok(()));
    assert_eq!(verdict_at(good(), -61), Err(X509Error::NotYetValid));
    assert_eq!(verdict_at(good(), 3600), Ok(()));
    assert_eq!(verdict_at(good(), 3601), Err(X509Error::Expired));
}

#[test]
fn a_client_leads_to_one_of_the_authorities_that_were_named() {
    let (ours, theirs) = (Domain::new(), Domain::of("td", ca("their root"), ca("their intermediate")));
    let made = signed(leaf("https://machine.example"), &theirs.intermediate);
    let (leaf, intermediate) = (Certificate::parse(&made.der), Certificate::parse(&theirs.intermediate.der));
    let (leaf, intermediate) = (leaf.unwrap(), [intermediate.unwrap()]);
    let anchors = [&ours, &theirs].map(|of| Authority::from_der(&of.root.der).unwrap());
    let anchor = verify_client(&leaf, &intermediate, &anchors, NOW).unwrap();
    assert_eq!(anchor.der().as_ref(), theirs.root.der);
    assert_eq!(verify_client(&leaf, &intermediate, &anchors[..1], NOW).unwrap_err(), X509Error::NoPath);
    assert_eq!(verify_client(&leaf, &[], &anchors, NOW).unwrap_err(), X509Error::NoPath);
    assert_eq!(verify_client(&leaf, &intermediate, &[], NOW).unwrap_err(), X509Error::NoPath);
}
