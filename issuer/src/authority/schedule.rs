//! When keys change: the schedule of DESIGN 9 as arithmetic, and the longest life that it leaves for what they sign.
//!
//! ```text
//! made        1/2 of life             by 2/3 of life                    end of life
//!  |── active ──|── successor prepared ──|── retiring, still published ──|
//!               |<------ 1/6 of life --->|<- longest TTL, and the skew ->|
//! ```
//!
//! Between 1/2 and 2/3 the successor waits until it was published for its lead and every node in sync has acknowledged
//! it; at 2/3 it takes over all the same.

use mayfly_sdk::{KeyAlgorithm, Timestamp, Ttl};
use serde::{Deserialize, Serialize};

use super::AuthorityError;
use super::slot::Facts;
use crate::store::SlotKind;

/// A part of a key's life.
pub(super) struct Part(u64, u64);

impl Part {
    pub(super) fn of(&self, life: Ttl) -> Ttl {
        let part = u64::from(life.as_s()) * self.0 / self.1;
        Ttl::from_s(u32::try_from(part).unwrap_or(u32::MAX))
    }
}

/// When the successor is prepared.
const HALF: Part = Part(1, 2);
/// What is left when the successor takes over at the latest.
const THIRD: Part = Part(1, 3);
/// How long a successor waits for acknowledgements at the most.
pub(super) const SIXTH: Part = Part(1, 6);
/// How long the next root is published before it signs at the least: it has a year, and those who fetch bundles by hand
/// need weeks.
const TWELFTH: Part = Part(1, 12);
/// What clocks may differ by, unless the life is so short that this would be much of it.
const SKEW: Ttl = Ttl::from_s(60);
const TWENTIETH: Part = Part(1, 20);
/// The longest life of an intermediate.
const LONGEST_INTERMEDIATE: Ttl = Ttl::from_s(24 * 3600);
const SHORTEST_LIFE: Ttl = Ttl::from_s(12);

/// What an operator sets about authorities: `[authority]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Life of the X.509 root, seconds.
    pub root_life: Ttl,
    /// Life of this process's intermediate, seconds; at most 24 h and a third of the root's.
    pub intermediate_life: Ttl,
    /// Life of a JWT key, seconds.
    pub jwt_life: Ttl,
    /// Life of a WIT key, seconds.
    pub wit_life: Ttl,
    /// Life of a key of task tokens, seconds.
    pub task_life: Ttl,
    /// How long a successor is published before it signs, seconds; at most 1/6 of its life is waited.
    pub publish_lead: Ttl,
    /// How often those who fetch the bundle should do so, seconds.
    pub bundle_refresh_hint: Ttl,
    /// Algorithm of new X.509 keys.
    pub x509_key: KeyAlgorithm,
    /// Algorithm of new JWT keys.
    pub jwt_key: KeyAlgorithm,
    /// Algorithm of new WIT keys.
    pub wit_key: KeyAlgorithm,
    /// Algorithm of new keys of task tokens.
    pub task_key: KeyAlgorithm,
    /// Whether there are WIT keys at all: `wit.enabled`.
    #[serde(skip)]
    pub wit: bool,
    /// Whether the bundle endpoint shows them: `bundle_endpoint.wit`.
    #[serde(skip)]
    pub wit_shown: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            root_life: Ttl::from_s(365 * 86_400),
            intermediate_life: LONGEST_INTERMEDIATE,
            jwt_life: Ttl::from_s(24 * 3600),
            wit_life: Ttl::from_s(24 * 3600),
            task_life: Ttl::from_s(24 * 3600),
            publish_lead: Ttl::from_s(3600),
            bundle_refresh_hint: Ttl::from_s(300),
            x509_key: KeyAlgorithm::EcP256,
            jwt_key: KeyAlgorithm::EcP256,
            wit_key: KeyAlgorithm::EcP256,
            task_key: KeyAlgorithm::EcP256,
            wit: false,
            wit_shown: false,
        }
    }
}

/// A setting that does not fit the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key below `[authority]`.
    pub key: &'static str,
    /// What is wrong, and what would fit: one sentence.
    pub what: String,
}

impl Settings {
    /// Everything that does not fit together.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut problem = |key, what| problems.push(Problem { key, what });
        for (key, life) in [
            ("root_life", self.root_life),
            ("intermediate_life", self.intermediate_life),
            ("jwt_life", self.jwt_life),
            ("wit_life", self.wit_life),
            ("task_life", self.task_life),
        ] {
            if life < SHORTEST_LIFE {
                problem(key, format!("{life} is too short to rotate in: the least is {SHORTEST_LIFE}"));
            }
        }
        let longest = THIRD.of(self.root_life).min(LONGEST_INTERMEDIATE);
        if self.intermediate_life > longest {
            let life = self.intermediate_life;
            problem(
                "intermediate_life",
                format!("{life} is more than {longest}, the least of 24h and a third of root_life"),
            );
        }
        for (key, algorithm) in [("jwt_key", self.jwt_key), ("wit_key", self.wit_key), ("task_key", self.task_key)] {
            if algorithm == KeyAlgorithm::Ed25519 {
                problem(key, "tokens have no Ed25519: use ec-p256".to_owned());
            }
        }
        problems
    }

    /// The longest X.509-SVID that can be signed at any moment of the schedule.
    #[must_use]
    pub fn longest_x509_ttl(&self) -> Ttl {
        longest_ttl(self.life(SlotKind::X509Intermediate))
    }

    /// The longest JWT-SVID that can be signed at any moment of the schedule.
    #[must_use]
    pub fn longest_jwt_ttl(&self) -> Ttl {
        longest_ttl(self.jwt_life)
    }

    /// The longest WIT-SVID that can be signed at any moment of the schedule.
    #[must_use]
    pub fn longest_wit_ttl(&self) -> Ttl {
        longest_ttl(self.wit_life)
    }

    /// The longest task token that can be signed at any moment of the schedule.
    #[must_use]
    pub fn longest_task_ttl(&self) -> Ttl {
        longest_ttl(self.task_life)
    }

    /// The life of a new key of this kind.
    pub(super) fn life(&self, kind: SlotKind) -> Ttl {
        match kind {
            SlotKind::X509Root => self.root_life,
            SlotKind::X509Intermediate => self.intermediate_life.min(THIRD.of(self.root_life)),
            SlotKind::Jwt => self.jwt_life,
            SlotKind::Wit => self.wit_life,
            SlotKind::Task | SlotKind::StatusList | SlotKind::SecurityEvent | SlotKind::Transaction => self.task_life,
        }
    }

    /// The algorithm of a new key of this kind.
    pub(super) fn algorithm(&self, kind: SlotKind) -> KeyAlgorithm {
        match kind {
            SlotKind::X509Root | SlotKind::X509Intermediate => self.x509_key,
            SlotKind::Jwt => self.jwt_key,
            SlotKind::Wit => self.wit_key,
            SlotKind::Task | SlotKind::StatusList | SlotKind::SecurityEvent | SlotKind::Transaction => self.task_key,
        }
    }

    /// How long a key of this kind and life is published before it signs.
    pub(super) fn lead(&self, kind: SlotKind, life: Ttl) -> Ttl {
        let lead = match kind {
            SlotKind::X509Root => self.publish_lead.max(TWELFTH.of(life)),
            _ => self.publish_lead,
        };
        lead.min(SIXTH.of(life))
    }

    /// From when on a prepared key was published for long enough.
    pub(super) fn lead_over(&self, kind: SlotKind, prepared: &Facts) -> Timestamp {
        prepared.made_at.saturating_add(self.lead(kind, prepared.life()))
    }

    /// The refresh hint that leaves five refreshes within the shortest lead (SPIFFE Federation 4.1: three to five).
    pub(super) fn refresh_hint(&self) -> Ttl {
        let mut lead = self.lead(SlotKind::Jwt, self.jwt_life).min(self.lead(SlotKind::X509Root, self.root_life));
        if self.wit {
            lead = lead.min(self.lead(SlotKind::Wit, self.wit_life));
        }
        self.bundle_refresh_hint.min(Ttl::from_s((lead.as_s() / 5).max(1)))
    }

    /// Refuses a lifetime that the keys could not outlive.
    ///
    /// # Errors
    /// [`AuthorityError::TtlTooLong`].
    pub(super) fn check_ttl(kind: SlotKind, asked: Ttl, longest: Ttl) -> Result<(), AuthorityError> {
        if asked > longest { Err(AuthorityError::TtlTooLong { kind, asked, longest }) } else { Ok(()) }
    }
}

/// When the successor of a key is prepared.
pub(super) fn prepare_at(made_at: Timestamp, life: Ttl) -> Timestamp {
    made_at.saturating_add(HALF.of(life))
}

/// When the last thing that a key of this kind and life has signed until it `stopped` has expired. Of a root that is
/// what the longest intermediate there may be needs, so that it does not depend on settings, which change.
pub(super) fn last_expiry(kind: SlotKind, life: Ttl, stopped: Timestamp) -> Timestamp {
    let longest = match kind {
        SlotKind::X509Root => THIRD.of(life).min(LONGEST_INTERMEDIATE),
        _ => longest_ttl(life),
    };
    // Twice the skew: once for the clocks of those who verify, once for an issuer that has not heard yet.
    stopped.saturating_add(longest).saturating_add(skew(life)).saturating_add(skew(life))
}

fn longest_ttl(life: Ttl) -> Ttl {
    Ttl::from_s(THIRD.of(life).as_s().saturating_sub(skew(life).as_s()))
}

fn skew(life: Ttl) -> Ttl {
    SKEW.min(TWENTIETH.of(life))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_leave_svids_of_eight_hours_less_the_skew() {
        let settings = Settings::default();
        assert_eq!(settings.problems(), []);
        assert_eq!(settings.longest_x509_ttl(), Ttl::from_s(8 * 3600 - 60));
        assert_eq!(settings.longest_jwt_ttl(), Ttl::from_s(8 * 3600 - 60));
        assert_eq!(settings.lead(SlotKind::Jwt, settings.jwt_life), Ttl::from_s(3600));
        assert_eq!(settings.refresh_hint(), Ttl::from_s(300));
    }

    #[test]
    fn the_lead_never_exceeds_the_sixth_of_a_life_that_the_schedule_has() {
        let settings = Settings { jwt_life: Ttl::from_s(60), root_life: Ttl::from_s(90), ..Settings::default() };
        assert_eq!(settings.lead(SlotKind::Jwt, settings.jwt_life), Ttl::from_s(10));
        assert_eq!(settings.refresh_hint(), Ttl::from_s(2));
        assert_eq!(settings.longest_jwt_ttl(), Ttl::from_s(17));
        // Keys that there are not are nobody's hurry.
        let short = Settings { wit_life: Ttl::from_s(30), ..settings };
        assert_eq!(short.refresh_hint(), Ttl::from_s(2));
        assert_eq!(Settings { wit: true, ..short }.refresh_hint(), Ttl::from_s(1));
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let settings = Settings {
            root_life: Ttl::from_s(60),
            intermediate_life: Ttl::from_s(30),
            jwt_life: Ttl::from_s(5),
            jwt_key: KeyAlgorithm::Ed25519,
            wit_life: Ttl::from_s(5),
            wit_key: KeyAlgorithm::Ed25519,
            ..Settings::default()
        };
        let keys: Vec<_> = settings.problems().into_iter().map(|problem| problem.key).collect();
        assert_eq!(keys, ["jwt_life", "wit_life", "intermediate_life", "jwt_key", "wit_key"]);
    }
}
