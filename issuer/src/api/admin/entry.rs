//! Entries: applied as a diff, listed, shown, deleted.

use mayfly_proto::admin::{
    ApplyEntriesRequest, ApplyEntriesResponse, DeleteEntryResponse, Entry as WireEntry, EntryChange, GetEntryResponse,
    ListEntriesRequest, ListEntriesResponse, entry_change::Kind,
};
use mayfly_sdk::{Reason, Refusal};

use super::{
    Admin,
    authorize::{Authorized, Object},
    page_size, wire_revision,
};
use crate::registry::{EntriesFile, Entry, Plan, Problems, Registry};

impl Admin {
    pub(super) async fn apply(
        &self,
        request: ApplyEntriesRequest,
        authorized: &Authorized,
    ) -> Result<ApplyEntriesResponse, Refusal> {
        let rules = self.directory.with_registry(|registry| std::sync::Arc::clone(registry.rules()));
        let file = EntriesFile::parse(&request.document, &rules).map_err(invalid)?;
        let now_ms = self.directory.clock().now_ms();
        let prune = request.prune;
        let (judge, clock) = (authorized.clone(), self.directory.clock().clone());
        // Judged where the plan is made, so that a grant which goes meanwhile counts for nothing.
        let plan = move |registry: &Registry| {
            judge.demand(registry, clock.now(), Object::EntriesOf(&file.owner))?;
            let plan = registry.plan(file, prune, now_ms).map_err(invalid)?;
            judge.demand_plan(registry, clock.now(), &plan)?;
            Ok(plan)
        };
        if request.dry_run {
            return Ok(response(&self.directory.with_registry(plan)?));
        }
        let edited = self.directory.edit_entries::<Refusal>(authorized.actor(), plan).await?;
        Ok(ApplyEntriesResponse { revision: edited.revision.map(wire_revision), ..response(&edited.plan) })
    }

    pub(super) fn entries(&self, request: &ListEntriesRequest, authorized: &Authorized) -> ListEntriesResponse {
        let size = page_size(request.page_size);
        let owner = Some(request.owner.as_str()).filter(|owner| !owner.is_empty());
        let now = self.directory.clock().now();
        let entries = self.directory.with_registry(|registry| {
            registry.page_of(&request.page_token, size, |entry| {
                owner.is_none_or(|owner| *entry.owner == *owner) && authorized.may(registry, now, object(entry))
            })
        });
        let next_page_token = match entries.last() {
            Some(last) if entries.len() == size => last.name().to_owned(),
            _ => String::new(),
        };
        ListEntriesResponse { items: entries.iter().map(|entry| wire(entry)).collect(), next_page_token }
    }

    pub(super) fn entry(&self, name_or_uid: &str, authorized: &Authorized) -> Result<GetEntryResponse, Refusal> {
        let now = self.directory.clock().now();
        let entry = self.directory.with_registry(|registry| {
            registry.find(name_or_uid).filter(|entry| authorized.may(registry, now, object(entry))).cloned()
        });
        let entry = entry.ok_or_else(|| unknown(name_or_uid))?;
        Ok(GetEntryResponse { entry: Some(wire(&entry)) })
    }

    pub(super) async fn delete(
        &self,
        name_or_uid: String,
        authorized: &Authorized,
    ) -> Result<DeleteEntryResponse, Refusal> {
        let (judge, clock) = (authorized.clone(), self.directory.clock().clone());
        let plan = move |registry: &Registry| {
            let found = registry.find(&name_or_uid).filter(|entry| judge.may(registry, clock.now(), object(entry)));
            // What the caller may not see is not there.
            found.ok_or_else(|| unknown(&name_or_uid))?;
            registry.plan_delete(&name_or_uid)
        };
        let edited = self.directory.edit_entries::<Refusal>(authorized.actor(), plan).await?;
        Ok(DeleteEntryResponse { revision: edited.revision.map(wire_revision) })
    }
}

fn object(entry: &Entry) -> Object<'_> {
    Object::Entry { owner: &entry.owner, spiffe_id: &entry.spec.spiffe_id }
}

fn unknown(name_or_uid: &str) -> Refusal {
    Refusal::new(Reason::UnknownEntry, format!("there is no entry {name_or_uid:?}"))
}

fn invalid(problems: Problems) -> Refusal {
    Refusal::from(problems)
}

fn response(plan: &Plan) -> ApplyEntriesResponse {
    let created = plan.created.iter().map(|made| EntryChange {
        kind: Kind::Created.into(),
        name: made.spec.name.to_string(),
        uid: made.uid.to_string(),
        fields: Vec::new(),
        reissues: true,
    });
    let updated = plan.updated.iter().map(|update| EntryChange {
        kind: Kind::Updated.into(),
        name: update.spec.name.to_string(),
        uid: update.before.uid.to_string(),
        fields: update.fields.iter().map(ToString::to_string).collect(),
        reissues: update.reissues,
    });
    let deleted = plan.deleted.iter().map(|entry| EntryChange {
        kind: Kind::Deleted.into(),
        name: entry.name().to_owned(),
        uid: entry.uid.to_string(),
        fields: Vec::new(),
        reissues: false,
    });
    ApplyEntriesResponse {
        changes: created.chain(updated).chain(deleted).collect(),
        unchanged: u32::try_from(plan.unchanged).unwrap_or(u32::MAX),
        revision: None,
    }
}

fn wire(entry: &Entry) -> WireEntry {
    WireEntry {
        name: entry.name().to_owned(),
        uid: entry.uid.to_string(),
        owner: entry.owner.to_string(),
        spiffe_id: entry.spec.spiffe_id.as_str().to_owned(),
        document: entry.document(),
        revision: Some(wire_revision(entry.revision)),
        created_at: entry.created_at.unix_s(),
        updated_at: entry.updated_at.unix_s(),
    }
}
