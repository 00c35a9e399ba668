//! Whether a remote caller may carry out a plan. Nobody grants what he lacks, by writing a grant or by writing an entry that
//! receives the identity of somebody who holds more.

use std::sync::Arc;

use mayfly_sdk::Refusal;

use super::{
    Grants, Object, denied,
    rights::{ADMIN, is_local_only},
};
use crate::registry::{Entry, EntrySpec, Plan, Registry};

/// Checks every entry that the plan touches, as it is and as it would be.
pub(super) fn check(plan: &Plan, registry: &Registry, grants: &Grants<'_>) -> Result<(), Refusal> {
    let created = plan.created.iter().map(|made| &made.spec);
    for spec in created.chain(plan.updated.iter().map(|update| &update.spec)) {
        may_write(&plan.owner, spec, registry, grants)?;
    }
    for update in &plan.updated {
        may_touch("entry:apply", &update.before, grants)?;
    }
    plan.deleted.iter().try_for_each(|entry| may_touch("entry:delete", entry, grants))
}

fn may_touch(verb: &str, entry: &Entry, grants: &Grants<'_>) -> Result<(), Refusal> {
    let object = Object::Entry { owner: &entry.owner, spiffe_id: &entry.spec.spiffe_id };
    if grants.allow(verb, object) {
        Ok(())
    } else {
        Err(refused(entry.name(), &format!("no grant of {verb} reaches it")))
    }
}

fn may_write(owner: &Arc<str>, spec: &EntrySpec, registry: &Registry, grants: &Grants<'_>) -> Result<(), Refusal> {
    let object = Object::Entry { owner, spiffe_id: &spec.spiffe_id };
    if !grants.allow("entry:apply", object) {
        return Err(refused(
            &spec.name,
            &format!("no grant of entry:apply reaches {} of {owner}", spec.spiffe_id.as_str()),
        ));
    }
    let granted = &spec.extra().admin;
    if !granted.is_empty() && !grants.allow(ADMIN, object) {
        return Err(refused(&spec.name, "it grants administration, which takes the verb `admin`"));
    }
    if granted.iter().any(is_local_only) {
        return Err(refused(&spec.name, "only the local socket grants authority:* and admin"));
    }
    if !granted.iter().all(|grant| grants.cover(grant)) {
        return Err(refused(&spec.name, "it grants what the caller does not have"));
    }
    // Whoever gets this entry's identity gets what is granted to that identity elsewhere.
    let mut shared = registry.all_administrators().filter(|(id, _)| spec.spiffe_id.may_render(id));
    if shared.any(|(_, entry)| !entry.spec.extra().admin.iter().all(|grant| grants.cover(grant))) {
        return Err(refused(&spec.name, "its SPIFFE ID is that of an administrator who has more than the caller"));
    }
    Ok(())
}

fn refused(name: &str, why: &str) -> Refusal {
    denied(format!("the entry {name:?} may not be changed by this caller: {why}"))
}
