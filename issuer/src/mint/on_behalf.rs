//! The user on whose behalf a task is asked for.

use mayfly_sdk::{Reason, Refusal};

use super::{BeginTask, Caller, Minter, Request};
use crate::task::allowed;
use crate::users::VerifiedUser;

impl Minter {
    /// Who the user is, if a user's token is shown. Nothing of it is looked at before it is known that the entry is for this node
    /// and lets its workloads act for users at all.
    ///
    /// # Errors
    /// What keeps an identity from being minted, [`Reason::OnBehalfNotAllowed`], and those of
    /// [`crate::users::Users::verify`].
    pub(super) async fn user_of(
        &self,
        caller: &Caller<'_>,
        request: &Request<BeginTask>,
    ) -> Result<Option<VerifiedUser>, Refusal> {
        let Some(token) = &request.wanted.subject_token else { return Ok(None) };
        if request.wanted.parent_token.is_some() {
            let what = "a task is on behalf of a user, or a part of another one, which says on whose behalf it is";
            return Err(Refusal::new(Reason::InvalidArgument, what));
        }
        let entry = self.consent(caller, request)?.entry;
        if allowed::part(&entry)?.users.is_empty() {
            let what = format!("the entry {} lets its workloads not act on behalf of users", entry.name());
            return Err(Refusal::new(Reason::OnBehalfNotAllowed, what));
        }
        self.users.verify(token).await.map(Some)
    }
}
