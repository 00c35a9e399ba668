//! The store's suite, against its public surface: it runs on every engine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it found by panicking"
)]

mod directory;
mod disk;
mod forget;
mod ledger;
mod nodes;
mod place;
mod registry;
mod slots;
mod strangers;

/// The tests of a module as they run on an engine: `place::Place` is what a second one replaces.
macro_rules! on_every_engine {
    ($( $test:ident, )+) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test($crate::place::Place::sqlite()).await;
                }
            )+
        }
    };
}
pub(crate) use on_every_engine;
