//! What a validator knows of the tasks of its audience, from a feed that says what changed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use super::feed::{TaskEvent, Update};
use super::state::TaskState;
use super::token::Standing;
use crate::revision::Revision;
use crate::serial::Serial;
use crate::time::{Clock, Timestamp};

/// Who has heard nothing for longer holds something stale.
pub const SILENCE: Duration = Duration::from_secs(30);

/// Why a message of a feed cannot be used: the feed has to be opened anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NewsError {
    /// The first message was not a whole one.
    #[error("a change came before anything that it could change")]
    NothingToChange,
    /// Something between the last message and this one is missing.
    #[error("there is a gap before this message")]
    Gap,
    /// The message is older than what is held.
    #[error("the message is older than what is held")]
    Older,
}

/// The standing of the tasks of one audience: tasks of which nothing was said are open.
///
/// That a task has ended is never taken back before it may be forgotten, not by a whole message either: after a restore with
/// loss an issuer may not know of it any more, and its tokens are dead all the same.
#[derive(Debug, Default)]
pub struct Standings {
    place: Option<Revision>,
    suspended: HashSet<Serial>,
    ended: HashMap<Serial, Timestamp>,
    by_end: BTreeSet<(Timestamp, Serial)>,
    /// When the issuer said what was heard last, Unix milliseconds of its clock.
    said_at: i64,
    heard: Option<Moment>,
}

/// A moment of both clocks: the wall clock may jump, and the other one stands still while a machine is suspended.
#[derive(Debug, Clone, Copy)]
struct Moment {
    wall: Timestamp,
    monotonic: Duration,
}

impl Standings {
    /// Takes in one update, which the issuer sent at this time of its clock (Unix milliseconds; 0: not known). What was said at the
    /// same time as the one before is no sign of life: a relay repeats it.
    ///
    /// # Errors
    /// [`NewsError`]; what is held stays as it was, and grows stale.
    pub fn take(&mut self, news: &Update, said_at: i64, clock: &Clock) -> Result<(), NewsError> {
        match self.place {
            Some(held) if news.whole => {
                if held.epoch == news.at.epoch && news.at.n < held.n {
                    return Err(NewsError::Older);
                }
                self.suspended.clear();
            }
            None if !news.whole => return Err(NewsError::NothingToChange),
            Some(held) => {
                let events = u64::try_from(news.events.len()).unwrap_or(u64::MAX);
                if news.at.epoch != held.epoch || held.n.checked_add(events) != Some(news.at.n) {
                    return Err(NewsError::Gap);
                }
            }
            None => {}
        }
        for event in &news.events {
            self.apply(event);
        }
        let now = Moment { wall: clock.now(), monotonic: clock.monotonic() };
        self.place = Some(news.at);
        if said_at == 0 || said_at != self.said_at {
            self.heard = Some(now);
        }
        self.said_at = said_at;
        // Neither clock alone: this one may have jumped ahead, and tokens are judged by it once it is back.
        self.forget(if said_at == 0 { now.wall } else { now.wall.min(Timestamp::from_unix_s(said_at / 1000)) });
        Ok(())
    }

    /// How a task stands, as far as this knows; [`Standings::is_fresh`] says how much that is worth.
    #[must_use]
    pub fn of(&self, task: Serial) -> Standing {
        match (self.ended.contains_key(&task), self.suspended.contains(&task)) {
            (true, _) => Standing::Ended,
            (false, true) => Standing::Suspended,
            (false, false) => Standing::Open,
        }
    }

    /// Whether a message came within [`SILENCE`].
    #[must_use]
    pub fn is_fresh(&self, clock: &Clock) -> bool {
        self.heard.is_some_and(|heard| {
            let wall = clock.now().seconds_since(heard.wall);
            clock.monotonic().saturating_sub(heard.monotonic) <= SILENCE && wall <= SILENCE.as_secs().cast_signed()
        })
    }

    /// The place in the feed; none before the first message.
    #[must_use]
    pub const fn place(&self) -> Option<Revision> {
        self.place
    }

    /// How many tasks are known not to be open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ended.len() + self.suspended.len()
    }

    /// Whether every task is open, as far as this knows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn apply(&mut self, event: &TaskEvent) {
        match event.state {
            TaskState::Open => {
                self.suspended.remove(&event.task);
            }
            TaskState::Suspended => {
                self.suspended.insert(event.task);
            }
            _ => {
                self.suspended.remove(&event.task);
                // Without a time it is kept for good rather than forgotten too soon.
                let until = event.forget_at.unwrap_or(Timestamp::from_unix_s(i64::MAX));
                let until = self.ended.get(&event.task).map_or(until, |held| until.max(*held));
                if let Some(before) = self.ended.insert(event.task, until) {
                    self.by_end.remove(&(before, event.task));
                }
                self.by_end.insert((until, event.task));
            }
        }
    }

    /// Forgets what cannot matter any more. Clocks may differ, and a token is good for some seconds beyond its end.
    fn forget(&mut self, now: Timestamp) {
        while let Some(&(until, task)) = self.by_end.first() {
            if until.unix_s().saturating_add(SILENCE.as_secs().cast_signed()) >= now.unix_s() {
                return;
            }
            self.by_end.pop_first();
            self.ended.remove(&task);
        }
    }
}
