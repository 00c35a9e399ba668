use mayfly_rig::Rig;
use mayfly_sdk::{PrivateKey, Reason, Refusal};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};

use super::pki::{self, HugeKey, Made, Pki, authority, machine, self_signed, valid};
use super::stranger::{Stranger, answer, key};
use super::{issuer, nodes};

fn private(made: &Made) -> PrivateKey {
    made.private_key()
}

/// What becomes of a chain whose key answers as it should.
async fn verdict(rig: &Rig, chain: &[Vec<u8>], machine_key: &PrivateKey) -> Result<(), Reason> {
    let attested = Stranger::dial(rig).await.attest(chain, machine_key, &key()).await;
    attested.map(|_| ()).map_err(|refusal| refusal.reason)
}

/// What becomes of a machine with this certificate, signed by the intermediate.
async fn leaf(rig: &Rig, pki: &Pki, change: impl FnOnce(&mut CertificateParams)) -> Result<(), Reason> {
    let mut params = machine("changed");
    change(&mut params);
    let made = pki.intermediate.signs(params, KeyPair::generate().unwrap());
    verdict(rig, &pki.chain(&made), &private(&made)).await
}

const INVALID: Result<(), Reason> = Err(Reason::MachineCertificateInvalid);
const UNTRUSTED: Result<(), Reason> = Err(Reason::MachineCertificateUntrusted);

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_proves_one_machine_for_one_node_key_on_one_connection_once() {
    let pki = Pki::new();
    let rig = issuer(&pki, &[]);
    let (ours, other) = (pki.machine("ours"), pki.machine("other"));
    let (chain, node_key) = (pki.chain(&ours), key());
    let refused = |outcome: Result<_, Refusal>| outcome.map(|_| ()).unwrap_err().reason;

    // The certificate of another machine, which is no secret, with a key of one's own.
    assert_eq!(verdict(&rig, &pki.chain(&other), &private(&ours)).await, Err(Reason::SignatureInvalid));

    // An answer of another connection: relayed at once, and replayed later.
    let (mut here, mut there) = (Stranger::dial(&rig).await, Stranger::dial(&rig).await);
    let begun = here.begin(&chain, &node_key).await.unwrap();
    let relayed = answer(&begun.nonce, &there.exporter, &private(&ours), &node_key, &node_key);
    assert_eq!(refused(begun.finish(relayed).await), Reason::SignatureInvalid);
    let begun = here.begin(&chain, &node_key).await.unwrap();
    let good = answer(&begun.nonce, &here.exporter, &private(&ours), &node_key, &node_key);
    let begun = there.begin(&chain, &node_key).await.unwrap();
    assert_eq!(refused(begun.finish(good.clone()).await), Reason::SignatureInvalid);
    let begun = here.begin(&chain, &node_key).await.unwrap();
    assert_eq!(refused(begun.finish(good).await), Reason::SignatureInvalid, "the same connection, another challenge");

    // A machine that vouches for one node key, and the node key of somebody else beside it.
    let begun = here.begin(&chain, &node_key).await.unwrap();
    let mixed = answer(&begun.nonce, &here.exporter, &private(&ours), &node_key, &key());
    assert_eq!(refused(begun.finish(mixed).await), Reason::SignatureInvalid);

    // No signature of the machine at all, and one that is no signature.
    for machine_signature in [Vec::new(), vec![0; 64], vec![0x30; 72]] {
        let begun = here.begin(&chain, &node_key).await.unwrap();
        let mut answer = answer(&begun.nonce, &here.exporter, &private(&ours), &node_key, &node_key);
        answer.machine_signature = machine_signature.into();
        assert_eq!(refused(begun.finish(answer).await), Reason::SignatureInvalid);
    }
    assert_eq!(nodes(&rig).len(), 0);

    assert!(here.attest(&chain, &private(&ours), &node_key).await.is_ok());
    assert_eq!(nodes(&rig).len(), 1);
}

/// Rows.
#[tokio::test(flavor = "multi_thread")]
async fn only_a_chain_to_a_configured_authority_enrols() {
    let pki = Pki::new();
    let rig = issuer(&pki, &[]);
    assert_eq!(leaf(&rig, &pki, |_| {}).await, Ok(()));
    let enrolled = nodes(&rig).len();

    // Another root with the same names, with and without the root in the chain.
    let theirs = Pki::new();
    let made = theirs.machine("theirs");
    assert_eq!(verdict(&rig, &theirs.chain(&made), &private(&made)).await, UNTRUSTED);
    let with_root = [theirs.chain(&made), vec![theirs.root.der.clone()]].concat();
    assert_eq!(verdict(&rig, &with_root, &private(&made)).await, UNTRUSTED);
    // Our intermediate beside a leaf that it did not sign.
    let mixed = [made.der.clone(), pki.intermediate.der.clone()];
    assert_eq!(verdict(&rig, &mixed, &private(&made)).await, UNTRUSTED);
    // A leaf that signed itself, as a leaf and as an authority of its own.
    let own = self_signed(machine("own"));
    assert_eq!(verdict(&rig, std::slice::from_ref(&own.der), &private(&own)).await, UNTRUSTED);
    assert_eq!(verdict(&rig, &[own.der.clone(), own.der.clone()], &private(&own)).await, UNTRUSTED);
    let mut ca = authority("root");
    ca.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let own = self_signed(ca);
    assert_eq!(verdict(&rig, std::slice::from_ref(&own.der), &private(&own)).await, INVALID);
    // A machine that issues certificates with its own.
    let ours = pki.machine("ours");
    let below = ours.signs(machine("below"), KeyPair::generate().unwrap());
    let chain = [vec![below.der.clone()], pki.chain(&ours)].concat();
    assert_eq!(verdict(&rig, &chain, &private(&below)).await, UNTRUSTED);
    // The authorities themselves, if somebody had their keys for this.
    assert_eq!(verdict(&rig, std::slice::from_ref(&pki.intermediate.der), &private(&pki.intermediate)).await, INVALID);
    assert_eq!(verdict(&rig, std::slice::from_ref(&pki.root.der), &private(&pki.root)).await, INVALID);
    // No intermediate, nothing, nonsense.
    let made = pki.machine("made");
    assert_eq!(verdict(&rig, std::slice::from_ref(&made.der), &private(&made)).await, UNTRUSTED);
    assert_eq!(verdict(&rig, &[], &private(&made)).await, INVALID);
    assert_eq!(verdict(&rig, &[vec![0x30; 100]], &private(&made)).await, INVALID);
    assert_eq!(verdict(&rig, &[[&made.der[..], b"x"].concat()], &private(&made)).await, INVALID);
    assert_eq!(nodes(&rig).len(), enrolled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_has_one_node_and_one_ban_whatever_certificates_of_its_key_it_brings() {
    let pki = Pki::new();
    let rig = issuer(&pki, &[]);
    let ours = pki.machine("ours");
    let (proof, node_key) = (private(&ours), key());
    let enrol = async |leaf: &[u8], node_key: &PrivateKey| {
        let chain = [leaf.to_vec(), pki.intermediate.der.clone()];
        let attested = Stranger::dial(&rig).await.attest(&chain, &proof, node_key).await;
        attested.map(|_| ()).map_err(|refusal| refusal.reason)
    };
    assert_eq!(enrol(&ours.der, &node_key).await, Ok(()));
    // One that its authority makes of the same key, and one that nobody made.
    let renewed = pki.intermediate.signs(machine("ours"), KeyPair::try_from(ours.key.serialized_der()).unwrap());
    let twin = ours.twin();
    assert!(twin != ours.der && renewed.der != ours.der);
    for other in [&twin, &renewed.der] {
        for node_key in [&node_key, &key()] {
            assert_eq!(enrol(other, node_key).await, Err(Reason::MachineEnrolledElsewhere));
        }
    }
    assert_eq!(enrol(&ours.der, &node_key).await, Ok(()), "a lost answer is asked for again");
    assert_eq!(nodes(&rig).len(), 1);
    let banned = rig.run(&["node", "ban", &super::name_of(&rig, &ours)]);
    assert!(banned.status.success());
    for certificate in [&ours.der, &twin, &renewed.der] {
        for node_key in [&node_key, &key()] {
            assert_eq!(enrol(certificate, node_key).await, Err(Reason::NodeBanned));
        }
    }
    assert_eq!(nodes(&rig).len(), 1);
    assert_eq!(verdict(&rig, &pki.chain(&pki.machine("ours")), &proof).await, Err(Reason::SignatureInvalid));
    assert_eq!(
        leaf(&rig, &pki, |_| {}).await,
        Ok(()),
        "another machine, with the same names or not, is another machine"
    );
}

/// Rows.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_certificates_of_a_chain_say_binds() {
    let pki = Pki::new();
    let rig = issuer(&pki, &[]);
    assert_eq!(leaf(&rig, &pki, |_| {}).await, Ok(()));
    // A certificate that says less is as good: existing ones are not made for us.
    let bare = |params: &mut CertificateParams| {
        params.is_ca = IsCa::NoCa;
        params.key_usages.clear();
        params.extended_key_usages.clear();
    };
    assert_eq!(leaf(&rig, &pki, bare).await, Ok(()));
    let enrolled = nodes(&rig).len();

    assert_eq!(leaf(&rig, &pki, |params| valid(params, -30, -1)).await, INVALID, "expired");
    assert_eq!(leaf(&rig, &pki, |params| valid(params, 1, 30)).await, INVALID, "not valid yet");
    let usages = [vec![ExtendedKeyUsagePurpose::ServerAuth], vec![ExtendedKeyUsagePurpose::EmailProtection]];
    for usages in usages {
        assert_eq!(leaf(&rig, &pki, |params| params.extended_key_usages = usages).await, INVALID);
    }
    for usages in [vec![KeyUsagePurpose::KeyEncipherment], vec![KeyUsagePurpose::KeyCertSign]] {
        assert_eq!(leaf(&rig, &pki, |params| params.key_usages = usages).await, INVALID);
    }
    let ca = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert_eq!(leaf(&rig, &pki, ca).await, INVALID);
    // A name that is no selector is not left out.
    let newline =
        |params: &mut CertificateParams| params.distinguished_name.push(rcgen::DnType::OrganizationalUnitName, "a\nb");
    assert_eq!(leaf(&rig, &pki, newline).await, INVALID);

    // What the authorities above it say.
    let under = async |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = authority("intermediate");
        change(&mut params);
        let intermediate = pki.root.signs(params, KeyPair::generate().unwrap());
        let made = intermediate.signs(machine("under"), KeyPair::generate().unwrap());
        verdict(&rig, &[made.der.clone(), intermediate.der.clone()], &private(&made)).await
    };
    assert_eq!(under(&|params| valid(params, -30, -1)).await, UNTRUSTED, "an expired intermediate");
    assert_eq!(under(&|params| params.is_ca = IsCa::ExplicitNoCa).await, UNTRUSTED);
    let email =
        |params: &mut CertificateParams| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
    assert_eq!(under(&email).await, INVALID, "an intermediate for mail");
    let last = pki.root.signs(
        {
            let mut params = authority("last");
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params
        },
        KeyPair::generate().unwrap(),
    );
    let beyond = last.signs(authority("beyond"), KeyPair::generate().unwrap());
    let made = beyond.signs(machine("beyond"), KeyPair::generate().unwrap());
    let chain = [made.der.clone(), beyond.der.clone(), last.der.clone()];
    assert_eq!(verdict(&rig, &chain, &private(&made)).await, UNTRUSTED, "beyond the path length");
    assert_eq!(nodes(&rig).len(), enrolled);
}

#[tokio::test(flavor = "multi_thread")]
async fn chains_and_keys_beyond_the_bounds_are_refused_before_a_challenge() {
    let pki = Pki::new();
    let rig = issuer(&pki, &[]);
    let made = pki.machine("made");
    let mut stranger = Stranger::dial(&rig).await;
    assert!(stranger.begin(&pki.chain(&made), &key()).await.is_ok());
    let mut refused = async |chain: &[Vec<u8>]| stranger.begin(chain, &key()).await.map(|_| ()).map_err(|it| it.reason);

    let three = [pki.chain(&made), vec![pki.root.der.clone()]].concat();
    let four = [&three[..], std::slice::from_ref(&pki.root.der)].concat();
    assert_eq!(refused(&four).await, Ok(()));
    assert_eq!(refused(&[&four[..], std::slice::from_ref(&pki.root.der)].concat()).await, INVALID, "five certificates");
    for bits in [8192, 4096 + 8, 1024] {
        let huge = pki.intermediate.signs_for(&machine("huge"), &HugeKey::of_bits(bits));
        assert_eq!(refused(&[huge, pki.intermediate.der.clone()]).await, INVALID, "a leaf with {bits} bits");
        let huge = pki.root.signs_for(&authority("huge"), &HugeKey::of_bits(bits));
        assert_eq!(refused(&[made.der.clone(), huge]).await, INVALID, "an intermediate with {bits} bits");
    }
    let mut params = machine("long");
    params
        .custom_extensions
        .push(rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999], vec![0; 50_000]));
    let long = pki.intermediate.signs(params, KeyPair::generate().unwrap());
    assert_eq!(refused(&pki.chain(&long)).await, INVALID, "more than 48 KiB");
    // Beyond 64 KiB the message is not even read to its end.
    for size in [70_000, 3_000_000] {
        let refusal = Stranger::dial(&rig).await.begin(&[vec![0; size]], &key()).await.map(|_| ()).unwrap_err();
        assert_eq!(refusal.reason, Reason::InvalidArgument, "{}", refusal.what);
        assert!(refusal.what.contains("64 KiB"), "{}", refusal.what);
    }
    assert_eq!(nodes(&rig).len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_without_authorities_for_machines_enrols_none() {
    let pki = Pki::new();
    let mut rig = Rig::new(&[]);
    rig.start_issuer();
    let made = pki.machine("made");
    assert_eq!(verdict(&rig, &pki.chain(&made), &private(&made)).await, Err(Reason::AttestorOff));
    let file = rig.dir().join("leaf.pem");
    std::fs::write(&file, pki::pem(&made.der)).unwrap();
    let config = rig.dir().join("check.toml");
    std::fs::write(&config, format!("trust_domain = \"a.example\"\nattest.x509pop_ca = \"{}\"\n", file.display()))
        .unwrap();
    let checked = rig.run(&["issuer", "check", "--config", config.to_str().unwrap()]);
    let told = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(!checked.status.success() && told.contains("no certificate authority"), "{told}");
}
