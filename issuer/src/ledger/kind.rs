//! What a record is about.

use std::fmt;

/// Writes the enum, its numbers and its names from one table, so that none can lack one.
macro_rules! kinds {
    ($( $(#[doc = $doc:literal])+ $name:ident = $code:literal, $text:literal; )+) => {
        /// What a record is about. The numbers are in the canonical bytes and never change their meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[repr(u16)]
        pub enum Kind {
            $( $(#[doc = $doc])+ $name = $code, )+
        }

        impl Kind {
            /// Every kind, in the order of the numbers.
            pub const ALL: &'static [Self] = &[$( Self::$name, )+];

            /// The stable snake-case name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$name => $text, )+ }
            }

            /// The kind with this number; `None` for one that a newer build made.
            #[must_use]
            pub const fn from_code(code: u16) -> Option<Self> {
                match code { $( $code => Some(Self::$name), )+ _ => None }
            }
        }
    };
}

kinds! {
    /// A node proved who it is and enrolled, or enrolled anew, its key.
    NodeAttested = 1, "node_attested";
    /// A node got its next SVID.
    NodeRenewed = 2, "node_renewed";
    /// A node was frozen: a generation was used twice, which a cloned disk does.
    NodeFrozen = 3, "node_frozen";
    /// An administrator banned a node.
    NodeBanned = 4, "node_banned";
    /// An administrator made the issuer forget a node.
    NodeEvicted = 5, "node_evicted";
    /// A join token was made.
    JoinTokenCreated = 6, "join_token_created";

    /// An X.509-SVID was signed.
    X509SvidIssued = 32, "x509_svid_issued";
    /// A JWT-SVID was signed.
    JwtSvidIssued = 33, "jwt_svid_issued";
    /// A WIT-SVID was signed.
    WitSvidIssued = 34, "wit_svid_issued";

    /// A signing key was made and waits to be known everywhere.
    AuthorityPrepared = 64, "authority_prepared";
    /// A signing key signs from now on.
    AuthorityActivated = 65, "authority_activated";
    /// A signing key signs no more; what it signed still holds.
    AuthorityRetiring = 66, "authority_retiring";
    /// A signing key left the bundle at the end of its life.
    AuthorityRetired = 67, "authority_retired";
    /// A signing key is believed to be compromised: what it signed is being replaced.
    AuthorityTainted = 68, "authority_tainted";
    /// A compromised signing key left the bundle.
    AuthorityRevoked = 69, "authority_revoked";
    /// An issuer process had its intermediate signed.
    IntermediateMade = 70, "intermediate_made";

    /// An entry was created.
    EntryCreated = 96, "entry_created";
    /// An entry was changed.
    EntryUpdated = 97, "entry_updated";
    /// An entry was deleted.
    EntryDeleted = 98, "entry_deleted";
    /// A bundle of another trust domain was set.
    BundleSet = 99, "bundle_set";
    /// A bundle of another trust domain was deleted.
    BundleDeleted = 100, "bundle_deleted";

    /// A set of task policies was applied.
    PolicyApplied = 101, "policy_applied";
    /// A set of task policies was deleted.
    PolicyDeleted = 102, "policy_deleted";

    /// A request was refused.
    Refused = 128, "refused";
    /// A new epoch of revisions began: the store was restored.
    EpochBegun = 129, "epoch_begun";
    /// A remote administrator made a call that he may make.
    AdminCalled = 130, "admin_called";

    /// A task was begun, or handed on from another.
    TaskBegun = 160, "task_begun";
    /// A task token was signed.
    TaskTokenIssued = 161, "task_token_issued";
    /// A task was suspended: its tokens are refused.
    TaskSuspended = 162, "task_suspended";
    /// A suspended task is open again.
    TaskResumed = 163, "task_resumed";
    /// A task was done.
    TaskCompleted = 164, "task_completed";
    /// A task was given up.
    TaskFailed = 165, "task_failed";
    /// The deadline of a task has passed.
    TaskExpired = 166, "task_expired";
    /// The instance of a task has ended.
    TaskAbandoned = 167, "task_abandoned";
    /// An administrator ended a task.
    TaskRevoked = 168, "task_revoked";
    /// A transaction token was signed for a service that was shown a task token.
    TransactionTokenIssued = 169, "transaction_token_issued";
    /// A provider logged a user out, or ended a session: tasks begun by its tokens are suspended.
    UserLoggedOut = 170, "user_logged_out";
    /// An administrator suspended a user's tasks.
    UserSuspended = 171, "user_suspended";
    /// An administrator resumed a user's tasks.
    UserResumed = 172, "user_resumed";
}

impl Kind {
    /// The number in the canonical bytes.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_and_names_are_distinct_ascending_and_read_back() {
        for pair in Kind::ALL.windows(2) {
            assert!(pair[0].code() < pair[1].code(), "{} before {}", pair[0], pair[1]);
        }
        let names: std::collections::HashSet<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            assert_eq!(Kind::from_code(kind.code()), Some(*kind));
        }
        assert_eq!(Kind::from_code(0), None);
    }
}
