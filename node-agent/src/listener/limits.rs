//! How many connections there may be, in all and of each user.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// Limits of a [`Listener`](super::Listener).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at a time for each user id. The next one is closed at once.
    pub connections_per_uid: u32,
    /// Connections open at a time in all. Never more than the open-files limit has room for, at two descriptors a connection.
    pub connections: u32,
    /// How long a client may take to send the HTTP/2 connection preface before it is cut.
    pub handshake: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections_per_uid: 1_000, connections: 9_000, handshake: Duration::from_secs(10) }
    }
}

impl Limits {
    /// The same, with `connections` lowered to what `open_files` leaves room for.
    pub(super) fn within(self, open_files: u64) -> Self {
        /// Descriptors left for everything else that the process does.
        const OTHERS: u64 = 256;
        let room = open_files.saturating_sub(OTHERS).max(OTHERS) / 2;
        Self { connections: self.connections.min(u32::try_from(room).unwrap_or(u32::MAX)), ..self }
    }
}

/// Counts the open connections.
#[derive(Debug)]
pub(super) struct Slots {
    limits: Limits,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    all: u32,
    of_uid: HashMap<u32, u32>,
}

/// Which limit was met.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Full {
    Uid,
    All,
}

/// The place of one connection, given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    uid: u32,
}

impl Slots {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, open: Mutex::default() })
    }

    pub(super) fn take(self: &Arc<Self>, uid: u32) -> Result<Slot, Full> {
        let mut open = self.open.lock();
        if open.all >= self.limits.connections {
            return Err(Full::All);
        }
        let of_uid = open.of_uid.entry(uid).or_default();
        if *of_uid >= self.limits.connections_per_uid {
            return Err(Full::Uid);
        }
        *of_uid += 1;
        open.all += 1;
        drop(open);
        Ok(Slot { slots: Arc::clone(self), uid })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.slots.open.lock();
        open.all -= 1;
        if let Entry::Occupied(mut of_uid) = open.of_uid.entry(self.uid) {
            *of_uid.get_mut() -= 1;
            if *of_uid.get() == 0 {
                of_uid.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(connections_per_uid: u32, connections: u32) -> Arc<Slots> {
        Slots::new(Limits { connections_per_uid, connections, ..Limits::default() })
    }

    #[test]
    fn one_user_cannot_take_the_places_of_another() {
        let slots = slots(2, 10);
        let held = (slots.take(1).unwrap(), slots.take(1).unwrap());
        assert_eq!(slots.take(1).unwrap_err(), Full::Uid);
        assert!(slots.take(2).is_ok());
        drop(held);
        assert!(slots.take(1).is_ok());
    }

    #[test]
    fn all_users_together_are_limited_too() {
        let slots = slots(2, 3);
        let held: Vec<_> = (0..3).map(|uid| slots.take(uid).unwrap()).collect();
        assert_eq!(slots.take(9).unwrap_err(), Full::All);
        drop(held);
        assert!(slots.open.lock().of_uid.is_empty());
        assert_eq!(slots.open.lock().all, 0);
    }

    #[test]
    fn the_limit_leaves_descriptors_for_everything_else() {
        assert_eq!(Limits::default().within(1024).connections, 384);
        assert_eq!(Limits::default().within(20_000).connections, 9_000);
        assert_eq!(Limits::default().within(10).connections, 128);
    }
}
