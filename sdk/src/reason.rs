//! Why something was refused: the one home of every stable reason code.
//!
//! A code is for machines: it goes over the wire, into metrics and into the ledger, and never changes its meaning. With
//! it go three answers that a person needs: whose move it is, whether to try again, and what to do.

use std::fmt;
use std::str::FromStr;

/// Whose move it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Whose {
    /// The one who asked: the request must change.
    Caller,
    /// Whoever runs this installation: the configuration, the registry or the machine must change.
    Operator,
    /// The other end of a connection: it presented something that does not hold.
    Peer,
    /// Mayfly's own: please report it.
    Bug,
}

impl Whose {
    /// The snake-case word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Operator => "operator",
            Self::Peer => "peer",
            Self::Bug => "bug",
        }
    }
}

/// Whether the same request can succeed without anything being changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// No: something must change first.
    No,
    /// Yes, after a pause that grows.
    Later,
    /// Yes, at once.
    Now,
}

impl Retry {
    /// The snake-case word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Later => "later",
            Self::Now => "now",
        }
    }
}

/// Writes the enum and its four columns from one table, so that no reason can lack an answer.
macro_rules! reasons {
    ($( $(#[doc = $doc:literal])+ $name:ident = $code:literal, $whose:ident, $retry:ident, $remedy:literal; )+) => {
        /// A stable reason code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Reason {
            $( $(#[doc = $doc])+ $name, )+
        }

        impl Reason {
            /// Every reason, in the order of the table.
            pub const ALL: &'static [Self] = &[$( Self::$name, )+];

            /// The stable snake-case code.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $( Self::$name => $code, )+ }
            }

            /// Whose move it is.
            #[must_use]
            pub const fn whose(self) -> Whose {
                match self { $( Self::$name => Whose::$whose, )+ }
            }

            /// Whether trying again can help.
            #[must_use]
            pub const fn retry(self) -> Retry {
                match self { $( Self::$name => Retry::$retry, )+ }
            }

            /// What to do: one sentence for a person, without a full stop.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $( Self::$name => $remedy, )+ }
            }
        }
    };
}

reasons! {
    // Words that cannot be read.
    /// A value in a request is missing, malformed or out of range.
    InvalidArgument = "invalid_argument", Caller, No, "correct the value that is named and send the request again";
    /// A text is not a SPIFFE ID.
    InvalidSpiffeId = "invalid_spiffe_id", Caller, No, "write it as spiffe://trust-domain/path, with the characters A-Z a-z 0-9 . _ - only";
    /// A text is not a trust domain.
    InvalidTrustDomain = "invalid_trust_domain", Caller, No, "use 1 to 255 of the characters a-z 0-9 . _ -";
    /// A SPIFFE ID lies below `/mayfly`.
    ReservedSpiffeId = "reserved_spiffe_id", Caller, No, "choose a path that does not begin with /mayfly";
    /// A text is not a selector.
    InvalidSelector = "invalid_selector", Caller, No, "write it as type:key:value, for example unix:uid:1000";
    /// A text is not a lifetime, or the lifetime is outside what is allowed.
    InvalidTtl = "invalid_ttl", Caller, No, "write a lifetime such as 300, 90s or 15m, within the limits of the configuration";

    // Keys.
    /// A key cannot be read.
    KeyMalformed = "key_malformed", Caller, No, "send the public key as a DER SubjectPublicKeyInfo, the private key as unencrypted PKCS#8";
    /// A key is of a type or curve that is not supported.
    KeyUnsupported = "key_unsupported", Caller, No, "use ECDSA P-256, P-384 or P-521, RSA from 2048 to 8192 bits, or Ed25519";
    /// A key is too weak.
    KeyWeak = "key_weak", Caller, No, "use ECDSA P-256, or RSA with at least 2048 bits";
    /// A public key is certified already, for another node, entry or instance.
    KeyInUse = "key_in_use", Caller, No, "make a new key: one key stands for one workload";
    /// A signature does not hold.
    SignatureInvalid = "signature_invalid", Peer, No, "sign these bytes with the key that is named";
    /// A key could not be made, or could not sign.
    KeyFailed = "key_failed", Bug, Later, "try again, and report it if it happens twice";
    /// The kernel gave no random bytes.
    RandomnessUnavailable = "randomness_unavailable", Operator, Later, "make getrandom(2) work in this sandbox";

    /// A key that was sent to be certified is one of the trust domain's own.
    KeyReserved = "key_reserved", Caller, No, "make a key of your own: a signing key of the issuer is never certified for a workload or a node";

    // Authorities: the issuer's signing keys.
    /// There is no authority with this id.
    AuthorityUnknown = "authority_unknown", Caller, No, "list the authorities and name one of them";
    /// An authority's state does not allow the change.
    AuthorityState = "authority_state", Caller, No, "list the authorities and choose a change that this one's state allows";
    /// A prepared authority is not known to every node yet.
    AuthorityNotAcknowledged = "authority_not_acknowledged", Caller, Later, "wait until the nodes have it, or activate it by force: nodes without it will refuse what it signs";
    /// No authority can sign at this moment.
    AuthorityUnavailable = "authority_unavailable", Operator, Later, "wait for the next one to be made; look at the issuer's log if it lasts";
    /// What was signed differs from what was planned, and was not released.
    IssuedNotAsPlanned = "issued_not_as_planned", Bug, No, "report it: nothing was released";
    /// The wrapping key of the stored signing keys is missing, another one, or unreadable.
    WrappingKey = "wrapping_key", Operator, No, "put back the wrapping key that belongs to this store (wrapping.key of the state directory, or the configured path), readable by the issuer alone";
    /// Stored authorities cannot be read or contradict each other.
    AuthorityDamaged = "authority_damaged", Operator, No, "restore the store and its wrapping key from one backup";

    // Verification of SVIDs and bundles.
    /// A certificate or chain cannot be read, or is not an X.509-SVID.
    X509SvidInvalid = "x509_svid_invalid", Peer, No, "the peer must present an X.509-SVID with its intermediates, leaf first";
    /// A certificate's signature, issuer or constraint does not hold, or it does not lead to the bundle.
    X509SvidUntrusted = "x509_svid_untrusted", Peer, No, "check that the bundle of the peer's trust domain is current and that the peer sends its intermediates";
    /// A token is not a JWT-SVID.
    JwtSvidInvalid = "jwt_svid_invalid", Caller, No, "present a JWT-SVID as the SPIFFE standard describes it";
    /// A token's signature does not hold, or its key is not in the bundle.
    JwtSvidUntrusted = "jwt_svid_untrusted", Caller, No, "fetch a new token; if it is refused too, check that the bundle of its trust domain is current";
    /// A token is not a WIT-SVID.
    WitSvidInvalid = "wit_svid_invalid", Caller, No, "present a WIT-SVID as the SPIFFE standard describes it, in the header Workload-Identity-Token";
    /// A WIT-SVID's signature does not hold, or its key is not in the bundle.
    WitSvidUntrusted = "wit_svid_untrusted", Caller, No, "fetch a new WIT-SVID; if it is refused too, check that the bundle of its trust domain is current and has keys of the use wit-svid";
    /// A WIT-SVID came without a proof of possession that holds for this request.
    ProofInvalid = "proof_invalid", Caller, No, "make a proof of possession with the key that the token is bound to, for this URL and this token, and send it with the request";
    /// A proof of possession was used before.
    ProofUsed = "proof_used", Caller, No, "make a new proof of possession for each request";
    /// A token is for another audience.
    WrongAudience = "wrong_audience", Caller, No, "ask for a token whose audience is this service's own name";
    /// A credential has expired.
    Expired = "expired", Caller, No, "present a credential that is still valid; check the clock if it should be";
    /// A credential is not valid yet.
    NotYetValid = "not_yet_valid", Caller, Later, "check the clocks of both machines";
    /// No bundle is known for the trust domain.
    UnknownTrustDomain = "unknown_trust_domain", Operator, No, "federate with that trust domain, or give this workload's entry federates_with";
    /// A peer's SPIFFE ID is not one that was asked for.
    UnauthorizedPeer = "unauthorized_peer", Peer, No, "allow this SPIFFE ID where the connection is made, or connect to the right peer";
    /// A bundle cannot be read.
    BundleInvalid = "bundle_invalid", Operator, No, "give a SPIFFE bundle: a JWK Set whose keys have the use x509-svid, jwt-svid or wit-svid";

    // Connections.
    /// TLS could not be configured.
    TlsSetup = "tls_setup", Bug, No, "report it, with the words above";
    /// A handshake failed before the peer was known.
    HandshakeFailed = "handshake_failed", Peer, Later, "check that both ends speak TLS 1.3 and that the other end accepts this one's SVID";
    /// A peer did not finish its handshake in time.
    HandshakeTimeout = "handshake_timeout", Peer, Later, "check the network and the load of the other end";
    /// No certificate of a peer's chain has the key that was pinned.
    PinMismatch = "pin_mismatch", Operator, No, "make a new join token at this issuer, and check that its address is the right one";
    /// Nobody answers at an address.
    PeerUnreachable = "peer_unreachable", Operator, Later, "check the address and that the other end runs";
    /// A connection was closed on this side.
    ConnectionClosed = "connection_closed", Caller, Now, "connect again";

    // Calls.
    /// The caller is known, and may not do this.
    PermissionDenied = "permission_denied", Caller, No, "ask the operator for the permission";
    /// The caller has no identity: no registration entry matches it.
    NoIdentity = "no_identity", Operator, Later, "register an entry whose selectors match this workload";
    /// The caller did not say who it is.
    Unauthenticated = "unauthenticated", Caller, No, "present a valid SVID with the call";
    /// What was named does not exist.
    NotFound = "not_found", Caller, No, "check the name";
    /// The server does not have this call.
    Unimplemented = "unimplemented", Caller, No, "use a server that has it, or switch the feature on";
    /// The server cannot answer now.
    Unavailable = "unavailable", Operator, Later, "wait; if it lasts, look at the server's health";
    /// The server has more to do than it takes on.
    Overloaded = "overloaded", Operator, Later, "call less often";

    // Sources.
    /// An endpoint address is missing or malformed.
    EndpointInvalid = "endpoint_invalid", Operator, No, "set SPIFFE_ENDPOINT_SOCKET to unix:///absolute/path or tcp://IP:port";
    /// The agent sent a message that does not hold; it was discarded and the one before it stays.
    MessageInvalid = "message_invalid", Peer, Later, "report it to whoever runs the agent: the message before it stays in use";
    /// A source has not received anything yet.
    SourceNotReady = "source_not_ready", Operator, Later, "check that the node agent runs and that an entry matches this workload";
    /// A source was shut down.
    SourceClosed = "source_closed", Caller, No, "do not use a source after shutting it down";

    // Nodes.
    /// A node has nothing to attest with.
    JoinTokenMissing = "join_token_missing", Operator, Later, "run `mayfly join-token create` at the issuer and put what it prints into the file that join_token_file names";
    /// A join token is not one that this issuer made.
    JoinTokenUnknown = "join_token_unknown", Operator, No, "make a new join token at this issuer (`mayfly join-token create`) and put it into the file that join_token_file names";
    /// A join token was consumed by another node key.
    JoinTokenUsed = "join_token_used", Operator, No, "make a new join token (`mayfly join-token create`): each enrols one node; if nobody else should have had it, evict the node that used it";
    /// A join token has expired.
    JoinTokenExpired = "join_token_expired", Operator, No, "make a new join token (`mayfly join-token create`) and use it within its life";
    /// A node is not enrolled, or no longer.
    NodeUnknown = "node_unknown", Operator, No, "the node was evicted: make a join token (`mayfly join-token create`) and put it into the file that join_token_file names, if the node is to come back";
    /// A node is banned.
    NodeBanned = "node_banned", Operator, No, "find out why the node was banned (`mayfly node show`); only an operator of the issuer can lift it";
    /// A node is frozen: its state was used in two places.
    NodeFrozen = "node_frozen", Operator, No, "find the second machine that runs from a copy of this node's state directory; then enrol the right one anew with a join token";
    /// A node's SVID expired so long ago that its key alone no longer attests it.
    NodeReattestTooLate = "node_reattest_too_late", Operator, No, "make a join token (`mayfly join-token create`) and put it into the file that join_token_file names";
    /// The issuer does not accept this way of attestation.
    AttestorOff = "attestor_off", Operator, Later, "configure this way of attestation at the issuer (for machine certificates: attest.x509pop_ca), or give the node a join token";
    /// The node agent cannot use the machine's certificate and key.
    MachineCertificateUnusable = "machine_certificate_unusable", Operator, Later, "name a PEM chain (leaf first, at most 4 certificates) with machine_certificate and the leaf's private key with machine_key, both readable by the node agent's user, and a bootstrap_bundle";
    /// The certificate that a machine presents is of a kind that proves nothing here.
    MachineCertificateInvalid = "machine_certificate_invalid", Operator, Later, "give the machine a certificate for client authentication that is valid now: at most 4 certificates in its chain, and keys of ECDSA, Ed25519, or RSA from 2048 to 4096 bits";
    /// The certificate that a machine presents does not lead to a configured authority.
    MachineCertificateUntrusted = "machine_certificate_untrusted", Operator, Later, "check that the chain that the machine presents leads to a certificate authority in the file that attest.x509pop_ca names, and that none of it has expired";
    /// A machine's certificate has enrolled another node key, which is still in use.
    MachineEnrolledElsewhere = "machine_enrolled_elsewhere", Operator, Later, "if the machine was reinstalled, evict the node (`mayfly node evict`) or wait until its last SVID has ended; otherwise find the second machine that has this certificate and its key";
    /// The node agent cannot write its state directory.
    StateUnwritable = "state_unwritable", Operator, Later, "make the node agent's state directory writable for its user, on a disk with room";
    /// A node agent cannot find out what a workload is.
    WorkloadUndetermined = "workload_undetermined", Operator, Later, "give the node agent what it needs to look into the processes of this node";
    /// Two builds have no protocol version in common.
    ProtocolUnsupported = "protocol_unsupported", Operator, Later, "upgrade the older of the two: node agents and issuers of neighbouring minor versions work together";

    // Callers without a node agent.
    /// A token of an identity provider cannot be read, or is of a form that is not accepted.
    TokenInvalid = "token_invalid", Caller, No, "present a JWT that the identity provider made for this issuer, of the kind that is asked for: signed with an allowed algorithm, with kid, iss, sub, aud, exp, and jti or iat";
    /// The signature of a token does not hold, or its key is not one of the identity provider.
    TokenUntrusted = "token_untrusted", Caller, No, "fetch a new token from the identity provider; if it is refused too, check the keys (jwks_file, jwks_url) that the issuer has of it";
    /// A token was used before.
    TokenUsed = "token_used", Caller, No, "fetch a new token from the identity provider: each is good for one call; if nobody else should have had it, find out who did";
    /// A token is of an identity provider that is not configured.
    IdentityProviderUnknown = "identity_provider_unknown", Operator, No, "configure the identity provider at the issuer, as [agentless.NAME] (callers without a node agent) or [users.NAME] (users), with the issuer that its tokens name";
    /// The keys of an identity provider are not to be had at the moment.
    IdentityProviderUnavailable = "identity_provider_unavailable", Operator, Later, "try again; if it lasts, check that the issuer reaches the jwks_url of this identity provider";
    /// A certificate request cannot be read, or was not signed by its own key.
    RequestInvalid = "certificate_request_invalid", Caller, No, "send a PKCS#10 request in DER, signed by the key that it is about: ECDSA, Ed25519, or RSA from 2048 to 4096 bits";

    // Changes and the store behind them.
    /// The change was made for a revision that is no longer the newest.
    Stale = "stale", Caller, Now, "look at what changed and make the change again";
    /// A name is taken, or something is not in the state that the request expects.
    Conflict = "conflict", Caller, No, "look at what is there now and make the request again";
    /// The disk of the store is full.
    StoreFull = "store_full", Operator, Later, "make room on the disk that holds the issuer's state directory; nothing is issued until then";
    /// The store cannot be written.
    StoreReadOnly = "store_read_only", Operator, Later, "make the issuer's state directory writable for its user, and its file system mounted read-write; nothing is issued until then";
    /// The disk of the store fails.
    StoreUnavailable = "store_unavailable", Operator, Later, "check the disk and the permissions of the issuer's state directory; nothing is issued until a write succeeds";
    /// The store holds something that cannot be read.
    StoreCorrupt = "store_corrupt", Operator, No, "stop the issuer, restore its state directory from a backup, and run `mayfly issuer restored` before you start it again";
    /// The store is ahead of the issuer's memory.
    StoreDiverged = "store_diverged", Operator, Later, "restart the issuer, so that it reads its store again";
    /// Another process has the store open.
    StoreInUse = "store_in_use", Operator, No, "stop the other issuer, or give this one a state directory of its own";
    /// A newer build wrote the store.
    StoreNewerSchema = "store_newer_schema", Operator, No, "run the newer version of Mayfly that wrote this store, or restore the backup made before the upgrade";
    /// The store belongs to another trust domain.
    StoreOtherTrustDomain = "store_other_trust_domain", Operator, No, "correct trust_domain in the configuration, or name the state directory of this trust domain";
    /// The process is shutting down.
    ShuttingDown = "shutting_down", Operator, Later, "try again; another issuer, or this one after its restart, will answer";
    /// Something happened that should not.
    Internal = "internal", Bug, Later, "report it, with the log of this moment";

    // Registration.
    /// A file of entries has problems, which the refusal lists.
    EntriesInvalid = "entries_invalid", Caller, No, "correct every place that is named and apply the file again; nothing of it was applied";
    /// A document is neither YAML nor JSON, or is larger or deeper than is allowed.
    DocumentUnreadable = "document_unreadable", Caller, No, "give one YAML or JSON document of at most 32 MiB";
    /// A key is not known.
    UnknownKey = "unknown_key", Caller, No, "remove the key, or write the nearest known one";
    /// A required key is missing, or has no value.
    MissingKey = "missing_key", Caller, No, "add the key with a value";
    /// A value of a document has the wrong form or is out of range.
    InvalidValue = "invalid_value", Caller, No, "correct the value that is named";
    /// What is asked for is planned, and this version does not do it yet.
    NotSupportedYet = "not_supported_yet", Caller, No, "remove it, or upgrade to a version that supports it";
    /// A template of a SPIFFE ID is not well formed, or rests on what nobody vouches for.
    InvalidTemplate = "invalid_template", Caller, No, "write placeholders as {type.key} or {node.type.key}, each a whole path segment";
    /// A template rests on what a node says about its workloads, and on nothing else.
    NodeAssertedFact = "node_asserted_fact", Caller, No, "add a {node.*} segment, list the fact's allowed_values, or write node_asserted: accept";
    /// A template needs a fact that the node or workload does not have.
    TemplateFactMissing = "template_fact_missing", Operator, No, "give the entry a selector that demands this fact, or change its template";
    /// A template needs a fact that has several values.
    TemplateFactAmbiguous = "template_fact_ambiguous", Operator, No, "use a fact that has one value in the template";
    /// A template needs a fact whose value cannot be a path segment.
    TemplateFactIllegal = "template_fact_illegal", Operator, No, "use a fact whose values hold A-Z a-z 0-9 . _ - only";
    /// A fact that a node asserts is not one that the entry allows.
    TemplateFactRefused = "template_fact_refused", Operator, No, "add the value to the entry's allowed_values, if the workload may have it";
    /// Templates have given more SPIFFE IDs on one node than the quota allows.
    RenderingQuota = "rendering_quota", Operator, Later, "raise renderings_per_node or the entry's quota, or look for who makes so many names on that node";
    /// An entry's name belongs to another owner.
    EntryNameTaken = "entry_name_taken", Caller, No, "choose another name; names are unique in the trust domain";
    /// An owner would have more entries than the quota allows.
    EntryQuota = "entry_quota", Operator, No, "delete entries, or raise entries_per_owner";
    /// There is no such entry.
    UnknownEntry = "unknown_entry", Caller, No, "list the entries; this one was deleted or never existed";
    /// An entry has reached its `expires_at`.
    EntryExpired = "entry_expired", Operator, No, "give the entry a later expires_at, if the workload is still in use";
    /// An entry has changed since the caller saw it.
    EntryChanged = "entry_changed", Caller, Now, "take the entry as it is now and ask again";
    /// A node may not serve an entry.
    EntryNotForNode = "entry_not_for_node", Caller, No, "name this node, or selectors that it has, in the entry's node";
    /// An entry does not allow an audience.
    AudienceNotAllowed = "audience_not_allowed", Caller, No, "ask for an audience that the entry's jwt_audiences lists";

    // Tasks.
    /// An entry does not let its workloads begin tasks.
    TaskNotAllowed = "task_not_allowed", Operator, No, "give the entry a `task` part, if its workloads may begin tasks";
    /// The ledger does not say for which instance a certificate was issued.
    InsufficientAttestation = "insufficient_attestation", Caller, No, "present the X.509-SVID that the node agent gives this process, of an entry with a `task` or `serves` part";
    /// A task goes beyond what the entry's `task` part allows.
    TaskExceedsEntry = "task_exceeds_entry", Caller, No, "ask for less, or have the `task` part of the entry changed, or for a user the longest_deadline of the provider";
    /// A policy set does not permit a task.
    PolicyDenied = "policy_denied", Operator, No, "ask for what the policies permit, or have the set that is named changed; `mayfly task explain` with the id of the request shows the decision";
    /// A file of policies cannot be read, or contradicts the schema.
    InvalidPolicy = "invalid_policy", Caller, No, "correct the places that are named; `mayfly policy schema` prints what policies may speak of";
    /// The entry lets its workloads begin no tasks on behalf of this provider's users.
    OnBehalfNotAllowed = "on_behalf_not_allowed", Operator, No, "name the user's identity provider in task.users of the entry, if its workloads may act for its users";
    /// A user's token does not say that this agent may act for the user, and neither does the entry.
    UserTokenNotForAgent = "user_token_not_for_agent", Caller, No, "have the provider name this agent's SPIFFE ID (azp, client_id or may_act), or name the token's client in task.users of the entry; hand no token on that somebody else acts with";
    /// The user, or the session of the token, was logged out after the token was issued.
    UserLoggedOut = "user_logged_out", Caller, No, "have the user log in again, and begin with the new token";
    /// An administrator suspended the user's tasks.
    UserSuspended = "user_suspended", Operator, No, "wait until an administrator resumes the user (`mayfly task resume --user`)";
    /// An instance has as many open tasks, or a tree as many descendants, as there may be.
    TaskQuota = "task_quota", Caller, Later, "complete tasks that are done, or have the quota raised";
    /// An instance or a node begins tasks faster than it may.
    TaskRate = "task_rate", Caller, Later, "begin tasks more slowly, or one task for more of the work; or have tasks.begins_per_instance or tasks.begins_per_node raised";
    /// There is no such task for whoever asks.
    TaskUnknown = "task_unknown", Caller, No, "list your tasks; this one is another's, ended long ago or never existed";
    /// The token for this grant would be longer than services read.
    GrantTooLarge = "grant_too_large", Caller, No, "begin several tasks with smaller grants";
    /// A workload asks about tokens of an audience that its entry does not serve.
    AudienceNotServed = "audience_not_served", Operator, No, "list the audience in the entry's `serves`, if the workload is that service";
    /// The grant that was asked for cannot be read.
    InvalidGrant = "invalid_grant", Caller, No, "correct the place that is named; the form of a grant is in docs/tasks.md";
    /// A child's deadline is later than its parent's.
    DeadlineExceedsParent = "deadline_exceeds_parent", Caller, No, "ask for a deadline that is not later than that of the task above";
    /// The task above is suspended or has ended.
    ParentNotOpen = "parent_not_open", Caller, No, "begin a new task, or have the suspended one resumed";
    /// A task would be delegated deeper than it may.
    TooDeep = "too_deep", Caller, No, "do it at this level, or begin the root task with a larger max_hops";
    /// A child asks for more depth than its parent has.
    HopsExceedParent = "hops_exceed_parent", Caller, No, "ask for a max_hops that is not above that of the task above";
    /// A child's scope is not within its parent's.
    ScopeExceedsParent = "scope_exceeds_parent", Caller, No, "ask only for scope tokens that the task above has";
    /// A child's detail is not within one of its parent's.
    DetailExceedsParent = "detail_exceeds_parent", Caller, No, "repeat each limit of one detail of the task above, or a narrower one";
    /// A task may not be delegated to this audience.
    AudienceNotDelegable = "audience_not_delegable", Caller, No, "name the audience in delegable when the task above is begun";
    /// The task above names who may act next, and not this workload.
    ActorNotAllowed = "actor_not_allowed", Caller, No, "delegate to a workload that may_act names";
    /// An instance would come twice in a chain of delegations.
    ActorRepeated = "actor_repeated", Caller, No, "delegate to another instance; this one holds a task of the chain already";
    /// A text is no task token, or its claims contradict each other.
    TaskTokenInvalid = "task_token_invalid", Peer, No, "send exactly one task token, as it was issued, for this service";
    /// A task token is not of an issuer or key that the validator trusts.
    TaskTokenUntrusted = "task_token_untrusted", Peer, No, "get a new task token; if that does not help, let the validator fetch the issuer's task keys again";
    /// A task token was shown by somebody that it is not bound to.
    TaskTokenNotBound = "task_token_not_bound", Peer, No, "present the token over the connection, or with the key, that it was issued for; after a rotation use the token and certificate that came together";
    /// A task is suspended.
    TaskSuspended = "task_suspended", Caller, Later, "wait until the task is resumed";
    /// A task has ended.
    TaskEnded = "task_ended", Caller, No, "begin a new task";
    /// A validator cannot know whether a task is open.
    TaskStandingUnknown = "task_standing_unknown", Operator, Later, "bring the validator's feed of revocations back, or let it accept tokens until they expire";
    /// A grant does not cover a call.
    InsufficientGrant = "insufficient_grant", Caller, No, "begin or delegate the task with the scope and details that the call needs";
}

/// A code that this build does not know; a newer peer may send one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the reason code is not known to this version")]
pub struct UnknownReason;

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(code: &str) -> Result<Self, UnknownReason> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code).ok_or(UnknownReason)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// A refusal as it may cross the wire: a stable code and public words. What must stay private stays in the span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Refusal {
    /// The stable code; from it follow [`Reason::whose`], [`Reason::retry`] and [`Reason::remedy`].
    pub reason: Reason,
    /// What was refused and why: one sentence in public words, without a full stop.
    pub what: String,
}

impl Refusal {
    /// A refusal for this reason.
    #[must_use]
    pub fn new(reason: Reason, what: impl Into<String>) -> Self {
        Self { reason, what: what.into() }
    }

    /// The kernel gave no random bytes.
    #[must_use]
    pub fn no_randomness() -> Self {
        Self::new(Reason::RandomnessUnavailable, "the kernel gave no random bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_stable_text_of_its_own_and_every_remedy_is_a_sentence() {
        let mut codes = std::collections::HashSet::new();
        for reason in Reason::ALL {
            let code = reason.code();
            assert!(codes.insert(code), "{code} is used twice");
            assert!(code.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_')), "{code}");
            assert!(!reason.remedy().is_empty() && !reason.remedy().ends_with('.'), "{code}");
            assert_eq!(code.parse(), Ok(*reason));
        }
        assert_eq!("no_such_code".parse::<Reason>(), Err(UnknownReason));
    }
}
