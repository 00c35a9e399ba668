//! What commands print: one value, as text for people or as one JSON object; streams as lines of JSON.
//!
//! Everything goes through [`Out`], which turns a reader that went away (`mayfly ledger tail | head`) into a quiet end.

use std::io::{self, Write};
use std::os::fd::AsFd as _;

use mayfly_sdk::Timestamp;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use tokio::sync::oneshot;

/// How results and failures are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON object, or one a line.
    Json,
}

/// Something that can be printed. The JSON form is its serialisation.
pub(crate) trait View: Serialize {
    /// Writes it for people.
    fn text(&self, w: &mut dyn Write) -> io::Result<()>;
}

/// Several of a kind: `{"items": [..]}`.
#[derive(Debug, Serialize)]
pub(crate) struct Items<T> {
    pub(crate) items: Vec<T>,
}

/// Standard output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Out {
    pub(crate) format: Format,
}

impl Out {
    /// Prints one value; in JSON on one line.
    pub(crate) fn show(self, view: &impl View) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        write_view(self.format, view, &mut stdout)?;
        stdout.flush()
    }
}

/// Waits until nobody reads standard output any more, for commands that may have nothing to write for long. Never ends for a file.
pub(crate) async fn reader_gone() {
    let (gone, told) = oneshot::channel();
    // A thread that nobody joins: it waits for as long as the process lives, and costs nothing.
    std::thread::spawn(move || {
        let stdout = io::stdout();
        let mut wait = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
        while poll(&mut wait, PollTimeout::NONE) == Err(Errno::EINTR) {}
        gone.send(()).ok();
    });
    if told.await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn write_view(format: Format, view: &impl View, w: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Text => view.text(w),
        Format::Json => {
            serde_json::to_writer(&mut *w, view)?;
            writeln!(w)
        }
    }
}

/// Columns that line up, for text. The last one is as wide as it is.
pub(crate) fn table<const N: usize>(w: &mut dyn Write, head: [&str; N], rows: &[[String; N]]) -> io::Result<()> {
    let head = head.map(str::to_owned);
    let mut widths = [0; N];
    for row in std::iter::once(&head).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in std::iter::once(&head).chain(rows) {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(w, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// RFC 3339 in UTC of a time on the wire (Unix seconds); none for 0, which stands for never.
pub(crate) fn time(unix_s: i64) -> Option<String> {
    (unix_s != 0).then(|| Timestamp::from_unix_s(unix_s).to_string())
}

/// RFC 3339 in UTC with milliseconds.
pub(crate) fn time_ms(unix_ms: i64) -> String {
    let seconds = Timestamp::from_unix_s(unix_ms.div_euclid(1000)).to_string();
    format!("{}.{:03}Z", seconds.trim_end_matches('Z'), unix_ms.rem_euclid(1000))
}

/// A revision of the wire as `epoch.n`.
pub(crate) fn revision(revision: Option<&mayfly_proto::admin::Revision>) -> Option<String> {
    revision.map(|revision| format!("{}.{}", revision.epoch, revision.n))
}

/// `-` for nothing, in text.
pub(crate) fn or_dash(value: Option<&String>) -> String {
    value.map_or_else(|| "-".to_owned(), ToOwned::to_owned)
}

/// Both forms of a view, for golden tests.
#[cfg(test)]
pub(crate) fn golden(view: &impl View) -> String {
    let mut both = Vec::new();
    write_view(Format::Text, view, &mut both).unwrap();
    write_view(Format::Json, view, &mut both).unwrap();
    String::from_utf8(both).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(time(0), None);
        assert_eq!(time(1_800_000_000).as_deref(), Some("2027-01-15T08:00:00Z"));
        assert_eq!(time_ms(1_800_000_000_007), "2027-01-15T08:00:00.007Z");
    }

    #[test]
    fn columns_line_up() {
        let mut text = Vec::new();
        table(&mut text, ["A", "LONGER"], &[["wide".into(), "x".into()], ["y".into(), String::new()]]).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "A     LONGER\nwide  x\ny\n");
    }
}
