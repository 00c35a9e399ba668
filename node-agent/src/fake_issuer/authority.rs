use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mayfly_proto::node;
use mayfly_sdk::bundle::{
    Bundle, JwtAuthority, JwtBundle, WitAuthority, WitBundle, X509Authority, X509Bundle, X509BundleSet,
};
use mayfly_sdk::jws::{JwsAlgorithm, Object, Signer};
use mayfly_sdk::tls::SpkiPin;
use mayfly_sdk::x509::X509Svid;
use mayfly_sdk::{Clock, KeyAlgorithm, PrivateKey, PublicKey, SignatureAlgorithm, Timestamp, TrustDomain, jwk};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;

/// Keys of a trust domain: a root that signs leaves through an intermediate, and a key for each kind of token.
pub(crate) struct Authority {
    trust_domain: TrustDomain,
    clock: Clock,
    root: CertificateDer<'static>,
    intermediate: CertificateDer<'static>,
    signer: Issuer<'static, KeyPair>,
    jwt: Signer,
    jwt_key: PrivateKey,
    wit: Signer,
    wit_key: PrivateKey,
    task: Signer,
}

impl Authority {
    pub(super) fn new(trust_domain: &TrustDomain, clock: &Clock) -> Self {
        let now = clock.now();
        let root_key = KeyPair::generate().unwrap();
        let root_params = ca("root", trust_domain, now);
        let root = root_params.self_signed(&root_key).unwrap();
        let root_issuer = Issuer::new(root_params, root_key);
        let key = KeyPair::generate().unwrap();
        let params = ca("intermediate", trust_domain, now);
        let intermediate = params.signed_by(&key, &root_issuer).unwrap();
        let jwt_key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
        let wit_key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
        let task_key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
        Self {
            trust_domain: trust_domain.clone(),
            clock: clock.clone(),
            root: root.der().clone(),
            intermediate: intermediate.der().clone(),
            signer: Issuer::new(params, key),
            jwt: Signer::new(&jwt_key, JwsAlgorithm::Es256, "JWT").unwrap(),
            jwt_key,
            wit: Signer::new(&wit_key, JwsAlgorithm::Es256, mayfly_sdk::wit::TYP).unwrap(),
            wit_key,
            task: Signer::new(&task_key, JwsAlgorithm::Es256, mayfly_sdk::task::TYP).unwrap(),
        }
    }

    pub(crate) fn pin(&self) -> SpkiPin {
        SpkiPin::of_certificate(&self.root).unwrap()
    }

    pub(super) fn trust(&self) -> X509BundleSet {
        X509BundleSet::from_iter([self.x509_bundle()])
    }

    fn x509_bundle(&self) -> X509Bundle {
        X509Bundle::new(self.trust_domain.clone(), vec![X509Authority::from_der(&self.root).unwrap()])
    }

    pub(crate) fn wire_bundle(&self, sequence: u64) -> node::Bundle {
        self.wire(self.bundle(), sequence)
    }

    /// The bundle where WIT-SVIDs are on.
    pub(crate) fn wire_bundle_with_wit(&self, sequence: u64) -> node::Bundle {
        let wit = WitAuthority::new(self.wit_key.public_key().clone()).unwrap();
        let wit = WitBundle::new(self.trust_domain.clone(), vec![wit]).unwrap();
        self.wire(self.bundle().with_wit(wit).unwrap(), sequence)
    }

    fn bundle(&self) -> Bundle {
        let jwt = JwtAuthority::new(self.jwt_key.public_key().clone()).unwrap();
        Bundle::new(self.x509_bundle(), JwtBundle::new(self.trust_domain.clone(), vec![jwt]).unwrap())
    }

    fn wire(&self, bundle: Bundle, sequence: u64) -> node::Bundle {
        let bundle = Bundle { sequence: Some(sequence), ..bundle };
        node::Bundle { trust_domain: self.trust_domain.to_string(), document: bundle.to_spiffe_json().into(), sequence }
    }

    /// The issuer's own SVID. Its chain ends with the root, for those who come with a pin.
    pub(super) fn issuer_svid(&self) -> X509Svid {
        let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
        let id = format!("spiffe://{}/mayfly/issuer/test", self.trust_domain);
        let mut chain = self.leaf(&id, &key.public_key_spki(), 3600);
        chain.push(self.root.clone());
        X509Svid::new(chain, key).unwrap()
    }

    /// A leaf and its intermediate.
    pub(super) fn leaf(&self, id: &str, spki: &[u8], lifetime_s: u32) -> Vec<CertificateDer<'static>> {
        let now = self.clock.now();
        let mut params = params("leaf", now, now.unix_s() + i64::from(lifetime_s));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        let mut serial = crate::random_id().unwrap();
        serial[0] = 1;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let leaf = params.signed_by(&P256(spki[spki.len() - 65..].to_vec()), &self.signer).unwrap();
        vec![leaf.der().clone(), self.intermediate.clone()]
    }

    /// The key that tokens are verified with.
    pub(crate) fn token_key(&self) -> &PublicKey {
        self.jwt_key.public_key()
    }

    /// A token of any header and claims whatever, rightly signed.
    pub(crate) fn signed(&self, header: &str, claims: &str) -> String {
        let input = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let signature = self.jwt_key.sign(SignatureAlgorithm::EcP256Sha256Fixed, input.as_bytes()).unwrap();
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    pub(super) fn token(&self, id: &str, audience: &[String], lifetime_s: u32) -> (String, String) {
        let now = self.clock.now().unix_s();
        let jti = hex::encode(crate::random_id().unwrap());
        let claims = serde_json::json!({
            "sub": id, "aud": audience, "iat": now, "exp": now + i64::from(lifetime_s), "jti": jti,
        });
        (self.jwt.sign(claims.to_string().as_bytes()).unwrap(), jti)
    }

    pub(super) fn task_token(&self, claims: &Object) -> String {
        self.task.sign(serde_json::Value::Object(claims.clone()).to_string().as_bytes()).unwrap()
    }

    pub(super) fn wit(&self, id: &str, spki: &[u8], lifetime_s: u32) -> (String, String) {
        let now = self.clock.now().unix_s();
        let jti = hex::encode(crate::random_id().unwrap());
        let mut key = jwk::members(&PublicKey::from_spki(spki).unwrap());
        key.insert("alg".to_owned(), "ES256".into());
        let claims = serde_json::json!({
            "sub": id, "cnf": { "jwk": key }, "iat": now, "exp": now + i64::from(lifetime_s), "jti": jti,
        });
        (self.wit.sign(claims.to_string().as_bytes()).unwrap(), jti)
    }
}

/// The point of a P-256 key, which is what an SPKI of that type ends with.
struct P256(Vec<u8>);

impl PublicKeyData for P256 {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

fn ca(name: &str, trust_domain: &TrustDomain, now: Timestamp) -> CertificateParams {
    let mut params = params(name, now, now.unix_s() + 365 * 86_400);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![SanType::URI(trust_domain.id().to_string().try_into().unwrap())];
    params
}

fn params(name: &str, now: Timestamp, not_after: i64) -> CertificateParams {
    let at = |seconds| time::OffsetDateTime::from_unix_timestamp(seconds).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (at(now.unix_s() - 60), at(not_after));
    params.use_authority_key_identifier_extension = true;
    params
}
