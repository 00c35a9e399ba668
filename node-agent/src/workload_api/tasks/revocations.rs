use std::collections::VecDeque;
use std::sync::Arc;

use mayfly_proto::task::Revocations as Message;
use mayfly_sdk::Refusal;
use mayfly_sdk::task::to_wire;
use tokio::sync::watch;

use super::validate::{checked_audience, serving};
use crate::revocations::{AudienceFeed, Told};
use crate::workload_api::Shared;
use crate::workload_api::entitlement::Entitlement;
use crate::workload_api::stream::{Rendered, View};

/// `WatchRevocations`: what becomes of the tasks whose tokens are for one audience, while the caller's entry serves it.
#[derive(Debug)]
pub(super) struct OneAudience {
    audience: String,
    followed: Option<(Arc<AudienceFeed>, watch::Receiver<u64>)>,
    told: Told,
    /// Signs of life that were told of.
    beat: Option<u64>,
    /// What is left of news that are longer than a message.
    rest: VecDeque<Message>,
}

impl OneAudience {
    /// # Errors
    /// [`Reason::InvalidArgument`](mayfly_sdk::Reason::InvalidArgument).
    pub(super) fn new(audience: String) -> Result<Self, Refusal> {
        checked_audience(&audience)?;
        Ok(Self { audience, followed: None, told: Told::default(), beat: None, rest: VecDeque::new() })
    }

    fn next(&mut self, shared: &Shared, entitlement: &Entitlement) -> Result<Rendered<Message>, Refusal> {
        let entry = serving(entitlement, &self.audience)?;
        let service = entitlement.subject(entry)?.to_wire(entry.issuance());
        let (feed, beats) = match &mut self.followed {
            Some(followed) => {
                followed.0.serve(service);
                followed
            }
            none => {
                let feed = shared.revocations.of(&self.audience, service)?;
                let beats = feed.beats();
                none.insert((feed, beats))
            }
        };
        if let Some(message) = self.rest.pop_front() {
            return Ok(Rendered::Complete(message));
        }
        let beat = *beats.borrow_and_update();
        if self.beat == Some(beat) {
            // Nobody has heard anything since.
            return Ok(Rendered::Pending(None));
        }
        match feed.after(self.told) {
            Err(why) => Ok(Rendered::Pending(why)),
            Ok(news) => {
                (self.told, self.beat) = (news.told, Some(beat));
                self.rest = to_wire(&news.update, news.said_at).into();
                if let Some(first) = self.rest.front_mut() {
                    first.issuer = news.issuer;
                }
                Ok(self.rest.pop_front().map_or(Rendered::Pending(None), Rendered::Complete))
            }
        }
    }
}

impl View for OneAudience {
    type Message = Message;

    fn render(&mut self, shared: &Shared, entitlement: &Entitlement) -> Rendered<Message> {
        self.next(shared, entitlement).unwrap_or_else(Rendered::Refused)
    }

    fn canonical(message: &Message) -> Vec<u8> {
        prost::Message::encode_to_vec(message)
    }

    async fn changed(&mut self) {
        let Some((_, beats)) = &mut self.followed else { return std::future::pending().await };
        if beats.changed().await.is_err() {
            // The sender lives in the feed that is followed.
            std::future::pending::<()>().await;
        }
    }
}
