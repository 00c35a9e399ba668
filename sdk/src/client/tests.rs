//! The client side against an agent that behaves as the standard says, over a Unix socket.

mod agent;
mod calls;
mod contexts;
mod following;
mod reconnecting;
mod refreshing;
mod wits;
