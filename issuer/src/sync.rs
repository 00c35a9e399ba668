//! How changes reach nodes: what a session still has to hear, and what was touched lately.

pub mod recent;
pub mod session;
