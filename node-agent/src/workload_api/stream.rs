//! A stream from its first message to its end: the full state now, and again after each change that alters it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use mayfly_sdk::{Reason, Refusal, Revision};
use ring::digest::{Digest, SHA256, digest};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;

use super::caller::Caller;
use super::entitlement::{Entitlement, Lacking, no_identity, shutting_down};
use super::limits::Place;
use super::{Messages, Shared};
use crate::holdings::Holdings;
use crate::streams::OpenStream;

/// How long a message waits for a credential that is being made, if there is something to send without it.
const SETTLE_WITHIN: Duration = Duration::from_secs(1);
/// How long a first message waits for a credential.
const MINT_WITHIN: Duration = Duration::from_secs(5);
/// The wall clock is asked again at least this often, for entries that expire.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// What a kind of stream shows of the state.
pub(super) trait View: Send + Sync + 'static {
    /// One message.
    type Message: Send + 'static;

    /// The full state for this entitlement.
    fn render(&mut self, shared: &Shared, entitlement: &Entitlement) -> Rendered<Self::Message>;

    /// All that is in a message, in an order that does not depend on chance.
    fn canonical(message: &Self::Message) -> Vec<u8>;

    /// Whether nothing can follow a message: the stream ends with OK after it.
    fn is_last(_message: &Self::Message) -> bool {
        false
    }

    /// The last touch to a message that goes out now.
    fn seal(&mut self, _message: &mut Self::Message) {}

    /// Counts what was rendered as seen.
    fn mark_seen(&mut self) {}

    /// Resolves when a credential that was rendered, or is missing, changes. Cancel safe.
    fn changed(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// What came of rendering.
#[derive(Debug)]
pub(super) enum Rendered<M> {
    /// The state, complete.
    Complete(M),
    /// The state as far as it is known; something better is being made.
    Unsettled(M),
    /// Nothing to show yet. Why, if that is known.
    Pending(Option<Refusal>),
    /// Nothing to show.
    Refused(Refusal),
}

/// Opens a stream for a caller.
///
/// # Errors
/// [`Reason::Overloaded`].
pub(super) fn follow<V: View>(shared: &Arc<Shared>, caller: Caller, view: V) -> Result<Messages<V::Message>, Refusal> {
    let place = shared.calls.stream(caller.uid())?;
    let following = Following {
        holdings: shared.link.holdings.clone(),
        open: shared.streams.open(),
        shared: Arc::clone(shared),
        caller,
        view,
        sent: None,
        offered: None,
        ended: false,
        _place: place,
    };
    Ok(Box::pin(futures_util::stream::unfold(following, Following::next)))
}

struct Following<V> {
    shared: Arc<Shared>,
    caller: Caller,
    view: V,
    holdings: watch::Receiver<Holdings>,
    open: OpenStream,
    /// Digest of the last message.
    sent: Option<Digest>,
    /// The revision of the message that was handed out last, until the client has taken it.
    offered: Option<Revision>,
    ended: bool,
    _place: Place,
}

impl<V: View> Following<V> {
    /// The next message. Being asked for it means that the client's flow control has taken the last one.
    async fn next(mut self) -> Option<(Result<V::Message, Status>, Self)> {
        if self.ended {
            return None;
        }
        if let Some(revision) = self.offered.take() {
            self.open.written(revision);
        }
        let next = match self.sent {
            Some(_) => self.next_after(None).await,
            None => self.first().await,
        };
        match next {
            Ok((mut message, revision)) => {
                self.view.seal(&mut message);
                self.ended = V::is_last(&message);
                self.offered = Some(revision);
                self.open.offered();
                Some((Ok(message), self))
            }
            Err(refusal) => {
                self.ended = true;
                Some((Err(refusal.into()), self))
            }
        }
    }

    async fn first(&mut self) -> Result<(V::Message, Revision), Refusal> {
        self.holdings.mark_unchanged();
        let entitlement = self.shared.entitlement_of_newcomer(&self.caller).await?;
        self.next_after(Some(entitlement)).await
    }

    /// Waits until there is something to say that was not said before. `known`: what was found out a moment ago.
    async fn next_after(&mut self, mut known: Option<Entitlement>) -> Result<(V::Message, Revision), Refusal> {
        let mut since = None;
        loop {
            self.may_go_on()?;
            let entitlement = if let Some(known) = known.take() {
                known
            } else {
                self.holdings.mark_unchanged();
                self.entitlement().await?
            };
            self.view.mark_seen();
            let revision = entitlement.revision;
            let started: Instant = *since.get_or_insert_with(Instant::now);
            let deadline = match self.view.render(&self.shared, &entitlement) {
                Rendered::Complete(message) => match self.unless_sent(message) {
                    Some(message) => return Ok((message, revision)),
                    None => None,
                },
                Rendered::Unsettled(message) if started.elapsed() >= SETTLE_WITHIN => match self.unless_sent(message) {
                    Some(message) => return Ok((message, revision)),
                    None => None,
                },
                Rendered::Unsettled(_) => Some(started + SETTLE_WITHIN),
                // A workload that has something keeps it while the rest is being made.
                Rendered::Pending(_) if self.sent.is_some() => None,
                Rendered::Pending(why) if started.elapsed() >= MINT_WITHIN => {
                    return Err(why.unwrap_or_else(|| self.shared.link.status.borrow().why_nothing_was_minted()));
                }
                Rendered::Pending(_) => Some(started + MINT_WITHIN),
                Rendered::Refused(refusal) => return Err(refusal),
            };
            if deadline.is_none() {
                // Nothing in this revision concerns the client.
                self.open.written(revision);
                since = None;
            }
            self.wait(deadline, &entitlement).await?;
        }
    }

    fn may_go_on(&self) -> Result<(), Refusal> {
        if self.shared.stop.is_cancelled() {
            return Err(shutting_down());
        }
        if self.open.is_told_to_close() {
            return Err(Refusal::new(Reason::Unavailable, "the client did not take a message within 10 s"));
        }
        Ok(())
    }

    async fn entitlement(&self) -> Result<Entitlement, Refusal> {
        self.shared.entitlement(&self.caller).await.map_err(|lacking| match lacking {
            Lacking::Nothing => no_identity(),
            Lacking::Undetermined(refusal) | Lacking::Gone(refusal) => refusal,
        })
    }

    /// The message, if it is not what the client was sent last.
    fn unless_sent(&mut self, message: V::Message) -> Option<V::Message> {
        let digest = digest(&SHA256, &V::canonical(&message));
        if self.sent.as_ref().is_some_and(|sent| sent.as_ref() == digest.as_ref()) {
            return None;
        }
        self.sent = Some(digest);
        Some(message)
    }

    async fn wait(&mut self, deadline: Option<Instant>, entitlement: &Entitlement) -> Result<(), Refusal> {
        let now = self.shared.clock.now();
        let look_again =
            entitlement.expires_at().map(|end| Instant::now() + end.remaining(now).duration().min(LOOK_AGAIN));
        let until = deadline.into_iter().chain(look_again).min();
        let alarm = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.holdings.changed() => changed.map_err(|_link_ended| shutting_down()),
            () = self.view.changed() => Ok(()),
            () = self.shared.stop.cancelled() => Err(shutting_down()),
            () = self.open.told_to_close() => Ok(()),
            () = alarm => Ok(()),
        }
    }
}
