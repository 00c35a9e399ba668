//! Authorities as a whole: what they do over a life, and after a crash at any point of it.

mod commands;
mod fake;
mod opened;
mod openssl;
mod published;
mod real;
mod recovery;
mod wits;
mod year;
