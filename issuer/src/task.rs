//! Tasks: one piece of work of one instance, and everything that is issued for it.
//!
//! ```text
//! begin: entry's `task` part (or the task above) ──> grant ──> token signed ──> task and token recorded at once ──> released
//! end:   the task and everything below it, in one transaction ──> memory ──> the nodes of their instances
//!                                                                        └─> the feeds of the resources that their tokens are for
//! ```
//!
//! Memory follows the store in the order of its commits and holds every task that has not ended; a task that it does not
//! hold has ended. Nothing here reads the database.

pub(crate) mod allowed;
mod feeds;
mod held;
mod rate;
mod silence;
mod statuses;
mod table;
mod tasks;
mod users;
mod watch;

pub use feeds::Following;
pub(crate) use feeds::HEARTBEAT;
pub use held::{Held, Task, UserToken};
pub(crate) use rate::Rate;
pub use silence::Silence;
pub use statuses::{PER_LIST, StatusListed};
pub use tasks::{By, Limits, Tasks};
pub use users::{Changed, Logout};
pub use watch::{News, Watch};
