//! What a machine's certificate says about it, as selectors: one for each attribute and name, each with its exact value, so
//! that no value can spell out another.

use std::net::IpAddr;

use mayfly_sdk::{Reason, Refusal, Selector, x509::Authority};
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    oid_registry::{
        OID_X509_COMMON_NAME, OID_X509_COUNTRY_NAME, OID_X509_LOCALITY_NAME, OID_X509_ORGANIZATION_NAME,
        OID_X509_ORGANIZATIONAL_UNIT, OID_X509_SERIALNUMBER, OID_X509_STATE_OR_PROVINCE_NAME, Oid,
    },
    prelude::FromDer as _,
    x509::X509Name,
};

use super::{NAME, invalid};
use crate::mint::sha256;

/// The most selectors from one certificate.
const MAX_SELECTORS: usize = 64;
/// The longest value, bytes.
const MAX_VALUE_BYTES: usize = 512;

/// The attributes of a name that become selectors.
static ATTRIBUTES: [(&str, Oid<'static>); 7] = [
    ("cn", OID_X509_COMMON_NAME),
    ("o", OID_X509_ORGANIZATION_NAME),
    ("ou", OID_X509_ORGANIZATIONAL_UNIT),
    ("c", OID_X509_COUNTRY_NAME),
    ("st", OID_X509_STATE_OR_PROVINCE_NAME),
    ("l", OID_X509_LOCALITY_NAME),
    ("serialnumber", OID_X509_SERIALNUMBER),
];

/// The selectors of a verified certificate (DER) that leads to this authority.
///
/// # Errors
/// [`Reason::MachineCertificateInvalid`]: a name cannot be read, cannot be a selector, or there are too many: what cannot be
/// said is not left out, for a rule might have been written against it.
pub(super) fn selectors(der: &[u8], anchor: &Authority) -> Result<Vec<Selector>, Refusal> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|error| invalid(format!("the certificate cannot be read: {error}")))?;
    let mut found = Found(Vec::new());
    found.add("ca", &hex::encode(sha256(&[anchor.der()])))?;
    found.add("serial", &hex::encode(certificate.raw_serial()))?;
    found.add_name("subject", certificate.subject())?;
    found.add_name("issuer", certificate.issuer())?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| invalid(format!("the names of the certificate cannot be read: {error}")))?;
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::DNSName(name) => found.add("san-dns", &name.to_ascii_lowercase())?,
            GeneralName::URI(uri) => found.add("san-uri", uri)?,
            GeneralName::RFC822Name(name) => found.add("san-email", name)?,
            GeneralName::IPAddress(bytes) => found.add("san-ip", &address(bytes)?.to_string())?,
            GeneralName::Invalid(..) => return Err(invalid("a name of the certificate cannot be read".to_owned())),
            // Names of other forms say nothing that a selector could.
            _ => {}
        }
    }
    Ok(found.0)
}

struct Found(Vec<Selector>);

impl Found {
    fn add(&mut self, key: &str, value: &str) -> Result<(), Refusal> {
        if self.0.len() >= MAX_SELECTORS {
            return Err(invalid(format!("the certificate has more than {MAX_SELECTORS} names")));
        }
        if value.len() > MAX_VALUE_BYTES {
            return Err(invalid(format!("a name of the certificate ({key}) is longer than {MAX_VALUE_BYTES} bytes")));
        }
        let selector = Selector::new(NAME, key, value).map_err(|error| {
            Refusal::new(
                Reason::MachineCertificateInvalid,
                format!("a name of the certificate ({key}) is no selector: {error}"),
            )
        })?;
        if !self.0.contains(&selector) {
            self.0.push(selector);
        }
        Ok(())
    }

    fn add_name(&mut self, whose: &str, name: &X509Name<'_>) -> Result<(), Refusal> {
        for attribute in name.iter_attributes() {
            let Some((key, _)) = ATTRIBUTES.iter().find(|(_, oid)| oid == attribute.attr_type()) else { continue };
            let value = attribute
                .as_str()
                .map_err(|_error| invalid(format!("the {whose} of the certificate has a {key} that is no text")))?;
            // An empty attribute says nothing.
            if !value.is_empty() {
                self.add(&format!("{whose}-{key}"), value)?;
            }
        }
        Ok(())
    }
}

fn address(bytes: &[u8]) -> Result<IpAddr, Refusal> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let any = v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
    any.map_err(|_length| invalid("an IP address of the certificate has neither 4 nor 16 bytes".to_owned()))
}
