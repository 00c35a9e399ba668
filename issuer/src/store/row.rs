//! Values of our types as columns, and back.

use std::str::FromStr;

use mayfly_sdk::{Revision, Selector, Timestamp};
use sqlx::Row as _;

use super::StoreError;
use super::connection::{Engine, Row};

/// The column at `index`.
pub(super) fn get<'r, T>(row: &'r Row, index: usize) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, Engine> + sqlx::Type<Engine>,
{
    Ok(row.try_get(index)?)
}

/// The text at `index` as what it spells.
pub(super) fn parsed<T: FromStr>(row: &Row, index: usize) -> Result<T, StoreError> {
    let text: &str = get(row, index)?;
    text.parse().ok().ok_or_else(|| unreadable(index, text))
}

/// The word at `index` as one of an enum.
pub(super) fn word<T>(row: &Row, index: usize, parse: fn(&str) -> Option<T>) -> Result<T, StoreError> {
    let text: &str = get(row, index)?;
    parse(text).ok_or_else(|| unreadable(index, text))
}

/// The bytes at `index`, of which there must be `N`.
pub(super) fn fixed<const N: usize>(row: &Row, index: usize) -> Result<[u8; N], StoreError> {
    optional_fixed(row, index)?.ok_or_else(|| unreadable(index, "NULL"))
}

/// The bytes at `index`, of which there must be `N`, or NULL.
pub(super) fn optional_fixed<const N: usize>(row: &Row, index: usize) -> Result<Option<[u8; N]>, StoreError> {
    let Some(bytes) = get::<Option<&[u8]>>(row, index)? else { return Ok(None) };
    bytes.try_into().ok().map(Some).ok_or_else(|| unreadable(index, "bytes of another length"))
}

/// The seconds at `index`.
pub(super) fn time(row: &Row, index: usize) -> Result<Timestamp, StoreError> {
    Ok(Timestamp::from_unix_s(get(row, index)?))
}

/// The seconds at `index`, or NULL.
pub(super) fn optional_time(row: &Row, index: usize) -> Result<Option<Timestamp>, StoreError> {
    Ok(get::<Option<i64>>(row, index)?.map(Timestamp::from_unix_s))
}

/// The two columns from `index` on.
pub(super) fn revision(row: &Row, index: usize) -> Result<Revision, StoreError> {
    Ok(Revision { epoch: unsigned(get(row, index)?)?, n: unsigned(get(row, index + 1)?)? })
}

/// The JSON array at `index`.
pub(super) fn selectors(row: &Row, index: usize) -> Result<Vec<Selector>, StoreError> {
    let text: &str = get(row, index)?;
    let all: Vec<String> = serde_json::from_str(text).ok().ok_or_else(|| unreadable(index, text))?;
    all.iter().map(|one| one.parse().ok().ok_or_else(|| unreadable(index, one))).collect()
}

/// Selectors as a JSON array.
pub(super) fn selectors_text(selectors: &[Selector]) -> String {
    selectors.iter().map(Selector::as_str).collect::<serde_json::Value>().to_string()
}

/// Certificates as one value: each a length (32 bits, big-endian) and DER.
pub(super) fn join_der(all: &[Vec<u8>]) -> Vec<u8> {
    let mut joined = Vec::new();
    for der in all {
        joined.extend_from_slice(&u32::try_from(der.len()).unwrap_or(u32::MAX).to_be_bytes());
        joined.extend_from_slice(der);
    }
    joined
}

/// The certificates at `index`.
pub(super) fn ders(row: &Row, index: usize) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut rest: &[u8] = get(row, index)?;
    let mut all = Vec::new();
    while !rest.is_empty() {
        let cut = || unreadable(index, "certificates cut short");
        let (length, after) = rest.split_first_chunk().ok_or_else(cut)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok().ok_or_else(cut)?;
        let (der, after) = after.split_at_checked(length).ok_or_else(cut)?;
        all.push(der.to_vec());
        rest = after;
    }
    Ok(all)
}

/// A count as the database keeps it: its integers are signed.
pub(super) fn stored(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A length as a count.
pub(super) fn stored_len(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// A count from the database.
pub(super) fn unsigned(value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).ok().ok_or_else(|| StoreError::Corrupt { what: format!("a count is {value}") })
}

fn unreadable(index: usize, what: &str) -> StoreError {
    let what: String = what.chars().take(80).collect();
    StoreError::Corrupt { what: format!("column {index} holds {what:?}") }
}
