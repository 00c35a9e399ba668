//! The local socket: everything between `bind` and the bytes that tonic reads.
//!
//! ```text
//! bind (safe path) -> accept (who is it, too many?) -> Connection: legal :authority in, nothing out once the process is dead or another program
//! ```
//!
//! One [`Listener`] serves the Workload API and the node agent's own services; hand [`Listener::incoming`] to `serve_with_incoming` of a server made by
//! [`configure`]. Handlers find the caller as `request.extensions().get::<Arc<Peer>>()`.

pub mod authority;
mod connection;
mod incoming;
mod limits;
mod server;
#[cfg(test)]
mod tests;

pub use connection::{Connection, Peer};
pub use incoming::{Incoming, Listener};
pub use limits::Limits;
pub use mayfly_sdk::socket::BindError;
pub use server::configure;
