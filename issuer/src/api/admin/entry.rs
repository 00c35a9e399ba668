//! Entries: applied as a diff, listed, shown, deleted.

use mayfly_proto::admin::{
    ApplyEntriesRequest, ApplyEntriesResponse, DeleteEntryResponse, Entry as WireEntry, EntryChange, GetEntryResponse,
    ListEntriesRequest, ListEntriesResponse, entry_change::Kind,
};
use mayfly_sdk::{Reason, Refusal};

use super::{Admin, page_size, wire_revision};
use crate::{
    directory::Actor,
    registry::{EntriesFile, Entry, Plan, Problems},
};

impl Admin {
    pub(super) async fn apply(
        &self,
        request: ApplyEntriesRequest,
        actor: &Actor,
    ) -> Result<ApplyEntriesResponse, Refusal> {
        let rules = self.directory.with_registry(|registry| std::sync::Arc::clone(registry.rules()));
        let file = EntriesFile::parse(&request.document, &rules).map_err(invalid)?;
        let now_ms = self.directory.clock().now_ms();
        let prune = request.prune;
        if request.dry_run {
            let plan = self.directory.with_registry(|registry| registry.plan(file, prune, now_ms)).map_err(invalid)?;
            return Ok(response(&plan));
        }
        let plan = move |registry: &crate::registry::Registry| registry.plan(file, prune, now_ms).map_err(invalid);
        let edited = self.directory.edit_entries::<Refusal>(actor, plan).await?;
        Ok(ApplyEntriesResponse { revision: edited.revision.map(wire_revision), ..response(&edited.plan) })
    }

    pub(super) fn entries(&self, request: &ListEntriesRequest) -> ListEntriesResponse {
        let size = page_size(request.page_size);
        let owner = Some(request.owner.as_str()).filter(|owner| !owner.is_empty());
        let entries = self.directory.with_registry(|registry| registry.page(owner, &request.page_token, size));
        let next_page_token = match entries.last() {
            Some(last) if entries.len() == size => last.name().to_owned(),
            _ => String::new(),
        };
        ListEntriesResponse { items: entries.iter().map(|entry| wire(entry)).collect(), next_page_token }
    }

    pub(super) fn entry(&self, name_or_uid: &str) -> Result<GetEntryResponse, Refusal> {
        let entry = self.directory.with_registry(|registry| registry.find(name_or_uid).cloned());
        let entry =
            entry.ok_or_else(|| Refusal::new(Reason::UnknownEntry, format!("there is no entry {name_or_uid:?}")))?;
        Ok(GetEntryResponse { entry: Some(wire(&entry)) })
    }

    pub(super) async fn delete(&self, name_or_uid: String, actor: &Actor) -> Result<DeleteEntryResponse, Refusal> {
        let plan = move |registry: &crate::registry::Registry| registry.plan_delete(&name_or_uid);
        let edited = self.directory.edit_entries::<Refusal>(actor, plan).await?;
        Ok(DeleteEntryResponse { revision: edited.revision.map(wire_revision) })
    }
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
