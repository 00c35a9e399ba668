//! A store that was restored from a backup counts its changes anew.
//!
//! What happened after the backup is gone, and nodes hold more than the store has. Under the old count they would refuse all of it as
//! older until that passes what they hold, and then take changes of another history for those that they lack. In a new epoch each
//! node takes everything anew.

use mayfly_sdk::{
    Clock, Reason, Refusal, Revision, Serial,
    settings::{Problems, Settings as _},
};

use crate::{
    config::Config,
    issuer::RunError,
    ledger::{Kind, Personal, Record},
    store::{Options, Store},
};

/// Minutes from 1970 to 2024. Epochs are minutes from then on, so that each is larger than all that any copy of the store had.
const FROM_MIN: i64 = 28_401_120;
/// The largest epoch that the clock makes: those after it count by one, and have room up to 2^23.
const BY_CLOCK: i64 = 7_000_000;

/// Begins a new epoch in the store of these settings, while no issuer runs on it. Where it begins.
///
/// # Errors
/// [`RunError::Settings`]; [`RunError::Store`], also when an issuer runs; [`RunError::Refused`] where there is no store.
pub async fn restored(config: Config) -> Result<Revision, RunError> {
    let mut problems = Problems::default();
    config.check().into_iter().for_each(|problem| problems.push(problem));
    if !problems.is_empty() {
        return Err(RunError::Settings(problems));
    }
    if !Store::is_in(&config.state_dir) {
        let what = format!("there is no store in {}", config.state_dir.display());
        return Err(Refusal::new(Reason::StoreCorrupt, what).into());
    }
    let clock = Clock::system();
    let (store, _loaded) = Store::open(&config.state_dir, Options::new(config.trust_domain()?), clock.clone()).await?;
    let record = Record {
        personal: Personal { actor: Some("command".into()), ..Personal::default() },
        ..Record::new(Kind::EpochBegun, Serial::generate(clock.now_ms())?)
    };
    let minutes = (clock.now_ms() / 60_000 - FROM_MIN).clamp(0, BY_CLOCK);
    let begun = store.begin_epoch(u64::try_from(minutes).unwrap_or(0), vec![record]).await;
    store.shut().await;
    Ok(begun?)
}
