//! Authorities: listed, prepared, activated, tainted, revoked.

use mayfly_proto::admin::{
    ActivateAuthorityRequest, Authority as WireAuthority, AuthorityResponse, ListAuthoritiesResponse,
};
use mayfly_sdk::{Refusal, Timestamp};

use super::{Admin, wire_revision};
use crate::{
    authority::{AuthorityError, AuthorityId, Changed, View},
    directory::Actor,
    store::SlotKind,
};

impl Admin {
    pub(super) fn list_authorities(&self, of: &str) -> Result<ListAuthoritiesResponse, Refusal> {
        let of = if of.is_empty() { None } else { Some(kind(of)?) };
        let views = self.authorities.list();
        let items = views.into_iter().filter(|view| of.is_none_or(|kind| view.kind == kind)).map(wire);
        Ok(ListAuthoritiesResponse { items: items.collect() })
    }

    pub(super) async fn prepare(&self, of: &str, actor: Actor) -> Result<AuthorityResponse, Refusal> {
        Ok(response(self.authorities.prepare(kind(of)?, actor).await?))
    }

    pub(super) async fn activate(
        &self,
        request: ActivateAuthorityRequest,
        actor: Actor,
    ) -> Result<AuthorityResponse, Refusal> {
        let id = AuthorityId::new(&request.id);
        Ok(response(self.authorities.activate(id, request.force, actor).await?))
    }

    pub(super) async fn taint(&self, id: &str, actor: Actor) -> Result<AuthorityResponse, Refusal> {
        Ok(response(self.authorities.taint(AuthorityId::new(id), actor).await?))
    }

    pub(super) async fn revoke(&self, id: &str, actor: Actor) -> Result<AuthorityResponse, Refusal> {
        Ok(response(self.authorities.revoke(AuthorityId::new(id), actor).await?))
    }
}

fn kind(name: &str) -> Result<SlotKind, Refusal> {
    let unknown = || AuthorityError::UnknownKind { name: name.to_owned() };
    Ok(SlotKind::parse(name).ok_or_else(unknown)?)
}

fn response(changed: Changed) -> AuthorityResponse {
    AuthorityResponse { authority: Some(wire(changed.view)), revision: Some(wire_revision(changed.revision)) }
}

fn wire(view: View) -> WireAuthority {
    let seconds = |at: Option<Timestamp>| at.map_or(0, Timestamp::unix_s);
    WireAuthority {
        id: view.id.to_string(),
        kind: view.kind.as_str().to_owned(),
        state: view.state.as_str().to_owned(),
        algorithm: view.algorithm.to_owned(),
        issuer: view.issuer,
        prepared_at: view.prepared_at.unix_s(),
        activated_at: seconds(view.activated_at),
        not_after: view.not_after.unix_s(),
        activate_by: seconds(view.activate_by),
        waiting_for: view.waiting_for.iter().map(ToString::to_string).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_kind_is_named_with_those_that_are_known() {
        let refusal = kind("x509").unwrap_err();
        assert!(refusal.what.contains("x509_root"), "{}", refusal.what);
        assert_eq!(kind("jwt").unwrap(), SlotKind::Jwt);
    }
}
