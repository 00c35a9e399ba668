use mayfly_sdk::{TrustDomain, Ttl};

/// What entries may ask for in this installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Whose entries these are.
    pub trust_domain: TrustDomain,
    /// Lifetime of X.509-SVIDs where an entry names none.
    pub default_x509_ttl: Ttl,
    /// Lifetime of JWT-SVIDs where an entry names none.
    pub default_jwt_ttl: Ttl,
    /// The longest lifetime that the X.509 authorities' rotation allows (DESIGN 9).
    pub longest_x509_ttl: Ttl,
    /// The longest lifetime that the WIT keys' rotation allows, where there are any (DESIGN 9). WIT-SVIDs live as long as the
    /// X.509-SVIDs of their entry.
    pub longest_wit_ttl: Ttl,
    /// The longest lifetime that the JWT authorities' rotation allows (DESIGN 9).
    pub longest_jwt_ttl: Ttl,
    /// Whether lifetimes below [`Rules::SHORTEST_TTL`] are allowed.
    pub allow_short_ttl: bool,
    /// Whether an entry may serve any audience (`serves: ["*"]`): in `dev` only.
    pub allow_serves_any: bool,
    /// The most entries that one owner may have.
    pub entries_per_owner: usize,
    /// The most selectors that one entry, or one alternative of its `node`, may have.
    pub selectors_per_entry: usize,
    /// The most distinct SPIFFE IDs that templates of workload facts may give on one node at a time.
    pub renderings_per_node: usize,
}

impl Rules {
    /// The shortest lifetime without `allow_short_ttl`.
    pub const SHORTEST_TTL: Ttl = Ttl::from_s(60);
    /// The longest lifetime that any entry may ask for.
    pub const LONGEST_TTL: Ttl = Ttl::from_s(6 * 3600);

    /// The defaults for a trust domain.
    #[must_use]
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            default_x509_ttl: Ttl::from_s(15 * 60),
            default_jwt_ttl: Ttl::from_s(5 * 60),
            longest_x509_ttl: Self::LONGEST_TTL,
            longest_wit_ttl: Self::LONGEST_TTL,
            longest_jwt_ttl: Self::LONGEST_TTL,
            allow_short_ttl: false,
            allow_serves_any: false,
            entries_per_owner: 100_000,
            selectors_per_entry: 64,
            renderings_per_node: 512,
        }
    }
}
