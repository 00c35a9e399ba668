//! Applying a file is a diff against its owner's entries (DESIGN 6).

use std::collections::HashSet;
use std::sync::Arc;

use mayfly_sdk::{Reason, Refusal, Timestamp};

use super::Registry;
use super::diff::{EntryChange, differences};
use super::entry::{Entry, EntrySpec};
use super::file::EntriesFile;
use super::problem::{Problem, Problems};
use super::uid::Uid;
use crate::store::{Committed, Op, PutEntry, issuance};

/// What applying a file would do. Nothing has happened yet: a dry run ends here.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Whose entries are concerned.
    pub owner: Arc<str>,
    /// Entries to make, in the order of the file.
    pub created: Vec<Creation>,
    /// Entries to change, in the order of the file.
    pub updated: Vec<Update>,
    /// Entries to delete, by name.
    pub deleted: Vec<Arc<Entry>>,
    /// How many entries of the file are as they should be.
    pub unchanged: usize,
}

/// One entry that is new.
#[derive(Debug, Clone, PartialEq)]
pub struct Creation {
    /// The uid that it gets.
    pub uid: Uid,
    /// The entry as its owner wrote it.
    pub spec: EntrySpec,
}

/// One entry that changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// The entry as it is.
    pub before: Arc<Entry>,
    /// The entry as its owner wrote it now.
    pub spec: EntrySpec,
    /// The names of the fields that differ.
    pub fields: Vec<&'static str>,
    /// Whether what is issued changes, so that SVIDs are minted anew.
    pub reissues: bool,
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.created.is_empty() && self.updated.is_empty() && self.deleted.is_empty()
    }

    /// What the store must commit, in one change, whose [`Committed`] goes to [`Registry::apply`].
    #[must_use]
    pub fn ops(&self) -> Vec<Op> {
        let put = |uid: Uid, spec: &EntrySpec, reissues| {
            Op::PutEntry(PutEntry {
                uid: uid.to_string(),
                name: spec.name.to_string(),
                owner: self.owner.to_string(),
                document: spec.to_json(),
                reissues,
            })
        };
        let deletes = self.deleted.iter().map(|entry| Op::DeleteEntry { uid: entry.uid.to_string() });
        let creates = self.created.iter().map(|creation| put(creation.uid, &creation.spec, true));
        let updates = self.updated.iter().map(|update| put(update.before.uid, &update.spec, update.reissues));
        deletes.chain(creates).chain(updates).collect()
    }
}

impl Registry {
    /// What it takes to make the owner's entries those of the file. Without `prune`, entries that the file does not name
    /// stay. `now_ms` is in Unix milliseconds.
    ///
    /// # Errors
    /// All problems: a name that another owner has, a quota, no randomness for uids.
    pub fn plan(&self, file: EntriesFile, prune: bool, now_ms: i64) -> Result<Plan, Problems> {
        let deleted = if prune { self.not_named_by(&file) } else { Vec::new() };
        let mut plan = Plan { owner: file.owner, created: Vec::new(), updated: Vec::new(), deleted, unchanged: 0 };
        let mut problems = Problems::default();
        for spec in file.entries {
            match self.by_name(&spec.name) {
                None => match Uid::generate(now_ms) {
                    Ok(uid) => plan.created.push(Creation { uid, spec }),
                    Err(refusal) => problems.push(Problem::new(&spec.name, "", refusal)),
                },
                Some(entry) if entry.owner != plan.owner => {
                    problems.push(Problem::new(&spec.name, "name", name_taken(entry)));
                }
                Some(entry) => match Update::new(entry, spec) {
                    Some(update) => plan.updated.push(update),
                    None => plan.unchanged += 1,
                },
            }
        }
        if let Err(refusal) = self.check_quota(&plan) {
            problems.push(Problem::new("", "entries", refusal));
        }
        problems.unless_any(plan)
    }

    /// What it takes to delete one entry.
    ///
    /// # Errors
    /// [`Reason::UnknownEntry`].
    pub fn plan_delete(&self, name_or_uid: &str) -> Result<Plan, Refusal> {
        let entry = self
            .find(name_or_uid)
            .ok_or_else(|| Refusal::new(Reason::UnknownEntry, format!("there is no entry {name_or_uid:?}")))?;
        Ok(Plan {
            owner: Arc::clone(&entry.owner),
            created: Vec::new(),
            updated: Vec::new(),
            deleted: vec![Arc::clone(entry)],
            unchanged: 0,
        })
    }

    /// Makes a plan visible, once the store has committed its [`Plan::ops`] in a change at `at`. What it returns goes to
    /// [`super::ConnectedNodes::deltas`].
    pub fn apply(&mut self, plan: Plan, committed: Committed, at: Timestamp) -> Vec<EntryChange> {
        let Plan { owner, created, updated, deleted, .. } = plan;
        let issuance = issuance(committed.revision);
        let revision = committed.revision;
        let mut changes: Vec<EntryChange> = deleted.iter().map(|entry| self.remove(entry.uid)).collect();
        for (created_order, Creation { uid, spec }) in (committed.first_order..).zip(created) {
            let owner = Arc::clone(&owner);
            let entry = Entry { uid, owner, issuance, created_order, created_at: at, updated_at: at, revision, spec };
            changes.push(self.put(Arc::new(entry)));
        }
        for Update { before, spec, reissues, .. } in updated {
            let entry = Entry {
                uid: before.uid,
                owner: Arc::clone(&owner),
                issuance: if reissues { issuance } else { before.issuance },
                created_order: before.created_order,
                created_at: before.created_at,
                updated_at: at,
                revision,
                spec,
            };
            changes.push(self.put(Arc::new(entry)));
        }
        changes
    }

    fn check_quota(&self, plan: &Plan) -> Result<(), Refusal> {
        let quota = self.rules().entries_per_owner;
        let count = (self.count_of_owner(&plan.owner) + plan.created.len()).saturating_sub(plan.deleted.len());
        // An owner above a quota that was lowered may still change and delete.
        if plan.created.is_empty() || count <= quota {
            return Ok(());
        }
        let what = format!("{} would have {count} entries, and the quota is {quota}", plan.owner);
        Err(Refusal::new(Reason::EntryQuota, what))
    }

    fn not_named_by(&self, file: &EntriesFile) -> Vec<Arc<Entry>> {
        let named: HashSet<&str> = file.entries.iter().map(|spec| &*spec.name).collect();
        let mut gone: Vec<_> =
            self.of_owner(&file.owner).filter(|entry| !named.contains(entry.name())).cloned().collect();
        gone.sort_by(|a, b| a.name().cmp(b.name()));
        gone
    }
}

impl Update {
    /// `None` if nothing differs.
    fn new(before: &Arc<Entry>, spec: EntrySpec) -> Option<Self> {
        let (fields, reissues) = differences(&before.spec, &spec);
        (!fields.is_empty()).then(|| Self { before: Arc::clone(before), spec, fields, reissues })
    }
}

fn name_taken(entry: &Entry) -> Refusal {
    Refusal::new(Reason::EntryNameTaken, format!("the entry {} belongs to the owner {}", entry.name(), entry.owner))
}
