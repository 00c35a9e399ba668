use std::collections::HashMap;
use std::sync::Arc;

use mayfly_sdk::{Reason, Refusal};
use parking_lot::Mutex;

/// What one user may have open at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallLimits {
    pub(crate) streams_per_uid: u32,
    pub(crate) calls_per_uid: u32,
}

/// Counts streams and calls for each user, so that one cannot take what others need.
#[derive(Debug, Clone)]
pub(crate) struct Calls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: CallLimits,
    open: Mutex<HashMap<(Kind, u32), u32>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Stream,
    Call,
}

/// A place that is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    calls: Calls,
    kind: Kind,
    uid: u32,
}

impl Calls {
    pub(crate) fn new(limits: CallLimits) -> Self {
        Self(Arc::new(Shared { limits, open: Mutex::default() }))
    }

    /// A place for a stream.
    ///
    /// # Errors
    /// [`Reason::Overloaded`].
    pub(crate) fn stream(&self, uid: u32) -> Result<Place, Refusal> {
        self.take(Kind::Stream, uid, self.0.limits.streams_per_uid, "streams")
    }

    /// A place for a call that waits for its one answer.
    ///
    /// # Errors
    /// [`Reason::Overloaded`].
    pub(crate) fn call(&self, uid: u32) -> Result<Place, Refusal> {
        self.take(Kind::Call, uid, self.0.limits.calls_per_uid, "calls")
    }

    fn take(&self, kind: Kind, uid: u32, most: u32, what: &str) -> Result<Place, Refusal> {
        let mut open = self.0.open.lock();
        let count = open.entry((kind, uid)).or_default();
        if *count >= most {
            return Err(Refusal::new(Reason::Overloaded, format!("the user {uid} has {most} {what} open already")));
        }
        *count += 1;
        Ok(Place { calls: self.clone(), kind, uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.calls.0.open.lock();
        if let Some(count) = open.get_mut(&(self.kind, self.uid)) {
            *count -= 1;
            if *count == 0 {
                open.remove(&(self.kind, self.uid));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_cannot_take_the_places_of_another() {
        let calls = Calls::new(CallLimits { streams_per_uid: 1, calls_per_uid: 1 });
        let held = calls.stream(1).unwrap();
        assert_eq!(calls.stream(1).unwrap_err().reason, Reason::Overloaded);
        assert!(calls.stream(2).is_ok() && calls.call(1).is_ok());
        drop(held);
        assert!(calls.stream(1).is_ok());
        assert!(calls.0.open.lock().is_empty());
    }
}
