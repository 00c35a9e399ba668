//! The feed of an audience as server-sent events: `GET /task/events?audience=URI`, for a workload whose entry serves it.
//!
//! ```text
//! event: whole       id: EPOCH.N                  everything that was said before is void
//! event: task        id: EPOCH.N   data: <SET>    a task is refused from now on, or no more (RFC 8417)
//! event: heartbeat   id: EPOCH.N                  nothing new, every 5 s; silence means that nothing is known
//! ```

use std::{collections::VecDeque, convert::Infallible, sync::Arc};

use axum::{
    extract::{Query, State},
    http::HeaderMap,
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures_util::stream;
use mayfly_sdk::{Reason, Refusal, Revision, task::TaskEvent};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;

use super::{Call, error::OAuthError};
use crate::task::{Following, HEARTBEAT};

/// Events that are signed before others have their turn.
const TOLD_AT_A_TIME: usize = 64;
/// The `events` of a security event token.
const TASK_CHANGED: &str = "urn:mayfly:task:changed";

#[derive(Deserialize)]
pub(super) struct Wanted {
    audience: String,
}

pub(super) async fn answer(
    State(call): State<Call>,
    Query(Wanted { audience }): Query<Wanted>,
    headers: HeaderMap,
) -> Result<Response, OAuthError> {
    serves(&call, &audience).await?;
    let held = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let feed = call.oauth.minter.tasks.follow(&audience);
    let edits = call.oauth.minter.directory.edits();
    let telling = Telling { call, audience: audience.into(), feed, edits, held, begun: false, rest: VecDeque::new() };
    // Whoever is told holds the place of a connection: no more are told than there are of those.
    Ok(Sse::new(stream::unfold(telling, Telling::next)).into_response())
}

async fn serves(call: &Call, audience: &str) -> Result<(), Refusal> {
    if call.client().await?.entry.serves(audience) {
        return Ok(());
    }
    Err(Refusal::new(Reason::AudienceNotServed, "the entry of this workload does not serve the audience"))
}

struct Telling {
    call: Call,
    audience: Arc<str>,
    feed: Following,
    edits: watch::Receiver<u64>,
    held: Option<Revision>,
    /// Whether anything was said on this connection.
    begun: bool,
    rest: VecDeque<Event>,
}

impl Telling {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        while self.rest.is_empty() {
            // What changed before somebody came is not waited for.
            if std::mem::replace(&mut self.begun, true) {
                tokio::select! {
                    () = self.feed.changed() => {}
                    _edited = self.edits.changed() => {}
                    () = tokio::time::sleep(HEARTBEAT) => {}
                    () = self.call.oauth.stop.cancelled() => return None,
                }
            }
            // What gave the right may be gone; whoever asks again is told why.
            serves(&self.call, &self.audience).await.ok()?;
            self.look().await.ok()?;
        }
        self.rest.pop_front().map(|event| (Ok(event), self))
    }

    async fn look(&mut self) -> Result<(), Refusal> {
        let update = self.feed.after(self.held);
        let id = update.at.to_string();
        // Only with the last one the place is reached: whoever is cut off between them is told all of them again.
        let held = self.held.filter(|_| !update.whole).unwrap_or_default().to_string();
        if update.whole {
            let place = if update.events.is_empty() { &id } else { &held };
            self.rest.push_back(Event::default().event("whole").id(place).data(&id));
        }
        let last = update.events.len().saturating_sub(1);
        for (n, event) in update.events.iter().enumerate() {
            let token = self.signed(event).await?;
            if n % TOLD_AT_A_TIME == 0 {
                // A signature each, and others wait.
                tokio::task::yield_now().await;
            }
            let id = if n == last { &id } else { &held };
            self.rest.push_back(Event::default().event("task").id(id).data(token));
        }
        if self.rest.is_empty() {
            self.rest.push_back(Event::default().event("heartbeat").id(&id).data(&id));
        }
        self.held = Some(update.at);
        Ok(())
    }

    /// RFC 8417 2.
    async fn signed(&self, event: &TaskEvent) -> Result<String, Refusal> {
        let minter = &self.call.oauth.minter;
        let clock = minter.directory.clock();
        let claims = json!({
            "iss": format!("{}/events", minter.task_iss.trim_end_matches("/task")),
            "iat": clock.now().unix_s(),
            "jti": mayfly_sdk::Serial::generate(clock.now_ms())?,
            "aud": &*self.audience,
            "sub_id": {"format": "opaque", "id": event.task},
            "events": {TASK_CHANGED: {
                "state": event.state.as_str(),
                "forget_at": event.forget_at.map(mayfly_sdk::Timestamp::unix_s),
            }},
        });
        let snapshot = minter.authorities.snapshot();
        Ok(snapshot.security_event().sign_notice(claims.to_string().as_bytes()).await?)
    }
}
