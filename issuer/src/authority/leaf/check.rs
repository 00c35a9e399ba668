//! A leaf is read back by another parser than wrote it, and compared with its plan field by field.

use std::net::IpAddr;

use mayfly_sdk::{Timestamp, Validity};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};

use super::encode::octets;
use super::{LeafPlan, LeafSigner};
use crate::authority::AuthorityError;
use crate::authority::certificate::parse;

impl LeafSigner {
    /// Compares a signed leaf with its plan: every field that is there, and that nothing else is there.
    pub(super) fn check(
        &self,
        der: &[u8],
        plan: &LeafPlan,
        validity: Validity,
        key_id: &[u8; 20],
    ) -> Result<(), AuthorityError> {
        let leaf = parse(der)?;
        let serial = plan.serial.as_bytes();
        let serial = serial.get(serial.iter().take_while(|byte| **byte == 0).count()..).unwrap_or_default();
        let found = leaf.raw_serial();
        let (before, after) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
        let comparisons = [
            ("version", leaf.version().0 == 2),
            ("serial number", found.strip_prefix(&[0]).unwrap_or(found) == serial),
            ("signature algorithm", leaf.signature == leaf.signature_algorithm),
            ("issuer", self.template.names(leaf.issuer().as_raw())),
            ("notBefore", Timestamp::from_unix_s(before) == validity.not_before()),
            ("notAfter", Timestamp::from_unix_s(after) == validity.not_after()),
            ("subject", leaf.subject().iter().next().is_none()),
            ("public key", leaf.public_key().raw == plan.public_key.spki()),
        ];
        if let Some((field, _)) = comparisons.into_iter().find(|(_, as_planned)| !as_planned) {
            return Err(AuthorityError::NotAsPlanned { field });
        }
        self.check_extensions(&leaf, plan, key_id)
    }

    fn check_extensions(
        &self,
        leaf: &X509Certificate<'_>,
        plan: &LeafPlan,
        key_id: &[u8; 20],
    ) -> Result<(), AuthorityError> {
        let mut seen = 0_u8;
        for extension in leaf.extensions() {
            let critical = extension.critical;
            let (bit, field, as_planned) = match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(aki) => {
                    let id = aki.key_identifier.as_ref().is_some_and(|id| id.0 == self.key_id);
                    (1, "authority key identifier", id && !critical)
                }
                ParsedExtension::SubjectAlternativeName(san) => {
                    (2, "subject alternative name", critical && is_planned(&san.general_names, plan))
                }
                // digitalSignature is bit 0.
                ParsedExtension::KeyUsage(usage) => (4, "key usage", critical && usage.flags == 1),
                ParsedExtension::ExtendedKeyUsage(usage) => {
                    let both = usage.server_auth && usage.client_auth && usage.other.is_empty();
                    let more = usage.any || usage.code_signing || usage.email_protection;
                    let more = more || usage.time_stamping || usage.ocsp_signing;
                    (8, "extended key usage", both && !more && !critical)
                }
                ParsedExtension::SubjectKeyIdentifier(ski) => {
                    (16, "subject key identifier", ski.0 == key_id && !critical)
                }
                ParsedExtension::BasicConstraints(constraints) => {
                    (32, "basic constraints", !constraints.ca && constraints.path_len_constraint.is_none() && critical)
                }
                _ => (0, "an extension that was not planned", false),
            };
            if !as_planned || seen & bit != 0 {
                return Err(AuthorityError::NotAsPlanned { field });
            }
            seen |= bit;
        }
        if seen == 0b11_1111 { Ok(()) } else { Err(AuthorityError::NotAsPlanned { field: "a missing extension" }) }
    }
}

/// One URI, the SPIFFE ID, then the DNS names and then the addresses, each in their order (X509-SVID 2).
fn is_planned(names: &[GeneralName<'_>], plan: &LeafPlan) -> bool {
    let Some((GeneralName::URI(id), names)) = names.split_first() else { return false };
    let Some((dns_names, addresses)) = names.split_at_checked(plan.dns_names.len()) else { return false };
    let is_dns =
        |(name, planned): (&GeneralName<'_>, &String)| matches!(name, GeneralName::DNSName(name) if name == planned);
    let is_address = |(name, planned): (&GeneralName<'_>, &IpAddr)| matches!(name, GeneralName::IPAddress(found) if *found == octets(planned));
    *id == plan.spiffe_id.as_str()
        && dns_names.iter().zip(&plan.dns_names).all(is_dns)
        && addresses.len() == plan.ip_addresses.len()
        && addresses.iter().zip(&plan.ip_addresses).all(is_address)
}
