//! The tasks of a user: suspended and resumed by an administrator, suspended when the user logs out.

use std::sync::Arc;

use mayfly_sdk::task::{Subject, User};
use mayfly_sdk::{Reason, Refusal, Serial, Timestamp};

use super::tasks::Tasks;
use crate::ledger::{Kind, Personal, Record};
use crate::store::{Barred, LogOut, Moved, Redemption, SuspendUser, UsedToken};

/// What a provider says of a user or a session that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logout {
    /// The provider, as the operator named it.
    pub provider: Arc<str>,
    /// Who; none: whoever's session it is.
    pub subject: Option<User>,
    /// Which session; none: all of them.
    pub session: Option<String>,
    /// When the provider said so.
    pub at: Timestamp,
    /// What is remembered of the logout token.
    pub token: UsedToken,
}

/// The tasks that were suspended or resumed.
pub type Changed = Vec<Serial>;

impl Tasks {
    /// Suspends every task of a user, and keeps the user from beginning others; or resumes what that or a logout suspended.
    ///
    /// # Errors
    /// What the store says.
    pub async fn suspend_user(&self, user: &User, suspended: bool, actor: Arc<str>) -> Result<Changed, Refusal> {
        let kind = if suspended { Kind::UserSuspended } else { Kind::UserResumed };
        let record = self.user_record(kind, actor, Subject::User(user.clone()).to_string())?;
        let change = SuspendUser { user: user.clone(), suspended, record };
        let table = Arc::clone(&self.table);
        let no_token_after = self.clock.now().saturating_add(self.limits.token);
        let then = move |moved: &Vec<Moved>| table.lock().follow(moved, no_token_after);
        Ok(changed(&self.store.suspend_user(change, then).await?))
    }

    /// Suspends the tasks of a user or session that has ended. Older tokens begin no tasks from then on.
    ///
    /// # Errors
    /// [`Reason::TokenUsed`], [`Reason::Overloaded`], or what the store says.
    pub async fn log_out(&self, logout: Logout) -> Result<Changed, Refusal> {
        let Logout { provider, subject, session, at, token } = logout;
        let actor = Arc::from(format!("provider:{provider}"));
        let about = match &subject {
            Some(user) => Subject::User(user.clone()).to_string(),
            None => "a session".to_owned(),
        };
        let record = self.user_record(Kind::UserLoggedOut, actor, about)?;
        let subject = subject.map(|user| user.subject().to_owned());
        let change = LogOut { provider: provider.to_string(), subject, session, at, token, record };
        let table = Arc::clone(&self.table);
        let no_token_after = self.clock.now().saturating_add(self.limits.token);
        let outcome = self.store.log_out(change, move |done| table.lock().follow(&done.moved, no_token_after)).await?;
        match outcome.token {
            Redemption::Redeemed | Redemption::Full => Ok(changed(&outcome.moved)),
            Redemption::UsedBefore => Err(Refusal::new(Reason::TokenUsed, "this logout token was used before")),
        }
    }

    fn user_record(&self, kind: Kind, actor: Arc<str>, about: String) -> Result<Record, Refusal> {
        let personal = Personal { actor: Some(actor), detail: Some(about.into()), ..Personal::default() };
        Ok(Record { personal, ..Record::new(kind, Serial::generate(self.clock.now_ms())?) })
    }
}

/// Why a user's task was not begun.
pub(super) fn refusal(barred: Barred, subject: &Subject) -> Refusal {
    match barred {
        Barred::Suspended => Refusal::new(Reason::UserSuspended, format!("the tasks of {subject} are suspended")),
        Barred::LoggedOut => {
            Refusal::new(Reason::UserLoggedOut, format!("{subject} has logged out since this token was issued"))
        }
    }
}

fn changed(moved: &[Moved]) -> Changed {
    moved.iter().filter(|task| task.changed).map(|task| task.id).collect()
}
