//! The public key infrastructure that a company might have had before Mayfly, made anew for each test.

use std::path::{Path, PathBuf};

use mayfly_sdk::PrivateKey;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType, SignatureAlgorithm,
};

/// A certificate with its key, and what was signed with it.
pub(super) struct Made {
    pub(super) params: CertificateParams,
    pub(super) key: KeyPair,
    pub(super) der: Vec<u8>,
}

/// A root and an intermediate.
pub(super) struct Pki {
    pub(super) root: Made,
    pub(super) intermediate: Made,
}

impl Pki {
    pub(super) fn new() -> Self {
        Self::of(authority("root"), authority("intermediate"))
    }

    pub(super) fn of(root: CertificateParams, intermediate: CertificateParams) -> Self {
        let root = self_signed(root);
        let intermediate = root.signs(intermediate, KeyPair::generate().unwrap());
        Self { root, intermediate }
    }

    /// The root as a file for the issuer.
    pub(super) fn root_file(&self, dir: &Path) -> PathBuf {
        let path = dir.join("machine-ca.pem");
        std::fs::write(&path, pem(&self.root.der)).unwrap();
        path
    }

    /// A machine of this name with a key of its own.
    pub(super) fn machine(&self, name: &str) -> Made {
        self.intermediate.signs(machine(name), KeyPair::generate().unwrap())
    }

    /// A machine's chain, leaf first.
    pub(super) fn chain(&self, machine: &Made) -> Vec<Vec<u8>> {
        vec![machine.der.clone(), self.intermediate.der.clone()]
    }

    /// The files that a machine would have.
    pub(super) fn files(&self, machine: &Made, dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
        std::fs::write(&certificate, pem(&machine.der) + &pem(&self.intermediate.der)).unwrap();
        std::fs::write(&key, machine.key_pem()).unwrap();
        (certificate, key)
    }
}

impl Made {
    pub(super) fn signs(&self, params: CertificateParams, key: KeyPair) -> Self {
        let der = params.signed_by(&key, &self.issuer()).unwrap().der().to_vec();
        Self { params, key, der }
    }

    /// A certificate for a key that nobody has.
    pub(super) fn signs_for(&self, params: &CertificateParams, key: &impl PublicKeyData) -> Vec<u8> {
        params.signed_by(key, &self.issuer()).unwrap().der().to_vec()
    }

    /// A certificate of the same content, as good and with another fingerprint, that nobody signed: of an ECDSA signature (r, s)
    /// the twin (r, n - s) holds as well, and anybody can work it out.
    pub(super) fn twin(&self) -> Vec<u8> {
        const N: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
        // SEQUENCE { r INTEGER, s INTEGER }, which ends the certificate as it ends its BIT STRING.
        let at = self.der.windows(4).rposition(|it| matches!(it, [0x03, 0x40..=0x49, 0, 0x30])).unwrap();
        let r_len = usize::from(self.der[at + 6]);
        let (r, s) = self.der[at + 5..].split_at(2 + r_len);
        let n: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&N[2 * at..2 * at + 2], 16).unwrap()).collect();
        let s = &s[2..];
        let s = [vec![0; 33 - s.len()], s.to_vec()].concat();
        let (mut twin, mut borrow) = (vec![0; 33], 0);
        for at in (0..32).rev() {
            let digit = i32::from(n[at]) - i32::from(s[at + 1]) - borrow;
            borrow = i32::from(digit < 0);
            twin[at + 1] = u8::try_from(digit + 256 * borrow).unwrap();
        }
        while twin[0] == 0 && twin[1] < 0x80 {
            twin.remove(0);
        }
        let element = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
        let signature = element(0x30, &[r, &element(2, &twin)].concat());
        let bits = element(3, &[&[0], &signature[..]].concat());
        let content = [&self.der[4..at], &bits].concat();
        let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[0x30, 0x82, high, low], &content[..]].concat()
    }

    pub(super) fn private_key(&self) -> PrivateKey {
        PrivateKey::from_pkcs8(&self.key.serialize_der()).unwrap()
    }

    pub(super) fn key_pem(&self) -> String {
        mayfly_sdk::pem::private_key(&self.private_key()).to_string()
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }
}

/// What an authority of this name is made from.
pub(super) fn authority(name: &str) -> CertificateParams {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// What the certificate of a machine of this name is made from.
pub(super) fn machine(name: &str) -> CertificateParams {
    let mut params = named(name);
    params.distinguished_name.push(DnType::OrganizationName, "Example");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params.subject_alt_names = vec![
        SanType::DnsName(format!("{name}.example.org").try_into().unwrap()),
        SanType::IpAddress("192.0.2.7".parse().unwrap()),
    ];
    params
}

pub(super) fn self_signed(params: CertificateParams) -> Made {
    let key = KeyPair::generate().unwrap();
    let der = params.self_signed(&key).unwrap().der().to_vec();
    Made { params, key, der }
}

pub(super) fn pem(der: &[u8]) -> String {
    mayfly_sdk::pem::certificate(der)
}

/// Moves a certificate's validity, in days from now.
pub(super) fn valid(params: &mut CertificateParams, from: i64, until: i64) {
    let now = std::time::SystemTime::now();
    let day = |days: i64| {
        let seconds = std::time::Duration::from_secs(days.unsigned_abs() * 86_400);
        if days < 0 { now - seconds } else { now + seconds }
    };
    (params.not_before, params.not_after) = (day(from).into(), day(until).into());
}

/// An RSA key with this many bits that nobody has.
pub(super) struct HugeKey(Vec<u8>);

impl HugeKey {
    pub(super) fn of_bits(bits: usize) -> Self {
        let element = |tag: u8, content: &[u8]| {
            let [.., high, low] = content.len().to_be_bytes();
            [&[tag, 0x82, high, low], content].concat()
        };
        let modulus = [vec![0], vec![0xff; bits / 8]].concat();
        let exponent = [2, 3, 1, 0, 1];
        Self(element(0x30, &[element(2, &modulus), exponent.to_vec()].concat()))
    }
}

impl PublicKeyData for HugeKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    valid(&mut params, -1, 30);
    params
}
