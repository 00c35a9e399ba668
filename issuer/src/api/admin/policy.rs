//! Task policies: sets applied, shown, deleted.

use std::sync::Arc;

use mayfly_proto::admin::{
    ApplyPolicyRequest, ApplyPolicyResponse, DeletePolicyResponse, GetPoliciesResponse, PolicyFile as WireFile,
    PolicySet as WireSet,
};
use mayfly_sdk::{Reason, Refusal};

use super::{Admin, wire_revision};
use crate::directory::Actor;
use crate::policy::{Applied, PolicyFile, PolicySet};

impl Admin {
    pub(super) async fn apply_policy(
        &self,
        request: ApplyPolicyRequest,
        actor: &Actor,
    ) -> Result<ApplyPolicyResponse, Refusal> {
        let ApplyPolicyRequest { name, files, dry_run } = request;
        let files = files.into_iter().map(|WireFile { name, text }| PolicyFile { name, text }).collect();
        // A megabyte takes a while, in which others are served.
        let read = tokio::task::spawn_blocking(move || PolicySet::read(&name, files)).await;
        let set = read.map_err(|_panicked| Refusal::new(Reason::Internal, "the policies were not read"))??;
        let policies = count(set.len());
        if dry_run {
            self.directory.policies().has_room(&set)?;
            return Ok(ApplyPolicyResponse { policies, revision: None });
        }
        let name = set.name().to_owned();
        let revision = self.directory.put_policy(actor, name, Some(Arc::new(set))).await?;
        Ok(ApplyPolicyResponse { policies, revision: Some(wire_revision(revision)) })
    }

    pub(super) fn policies(&self, name: &str) -> Result<GetPoliciesResponse, Refusal> {
        let policies = self.directory.policies();
        let items: Vec<_> = match name {
            "" => policies.sets().map(wire).collect(),
            name => policies.get(name).map(wire).into_iter().collect(),
        };
        if items.is_empty() && !name.is_empty() {
            return Err(Refusal::new(Reason::NotFound, format!("there is no policy set {name:?}")));
        }
        Ok(GetPoliciesResponse { items, revision: policies.revision().map(wire_revision) })
    }

    pub(super) async fn delete_policy(&self, name: String, actor: &Actor) -> Result<DeletePolicyResponse, Refusal> {
        let revision = self.directory.put_policy(actor, name, None).await?;
        let left = count(self.directory.policies().sets().count());
        Ok(DeletePolicyResponse { revision: Some(wire_revision(revision)), left })
    }
}

fn wire(applied: &Applied) -> WireSet {
    let files = applied.set.files().iter();
    WireSet {
        name: applied.set.name().to_owned(),
        revision: Some(wire_revision(applied.revision)),
        policies: count(applied.set.len()),
        files: files.map(|file| WireFile { name: file.name.clone(), text: file.text.clone() }).collect(),
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
