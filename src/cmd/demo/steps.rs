//! The narration: one line a step, printed once the step was seen to hold.

use std::io::{self, Write};

use serde::Serialize;
use tokio::time::Instant;

use crate::failure::Failure;
use crate::output::{Out, View};

/// Prints steps with the time since the beginning.
#[derive(Debug)]
pub(super) struct Steps {
    out: Out,
    begun: Instant,
    held: u32,
}

/// A step that was checked.
#[derive(Debug, Serialize)]
struct Checked {
    elapsed_ms: u64,
    step: String,
    held: bool,
}

/// The end.
#[derive(Debug, Serialize)]
struct End {
    elapsed_ms: u64,
    steps: u32,
    held: bool,
}

impl Steps {
    pub(super) fn new(out: Out) -> Self {
        Self { out, begun: Instant::now(), held: 0 }
    }

    /// A step held.
    pub(super) fn held(&mut self, step: impl Into<String>) -> Result<(), Failure> {
        self.held += 1;
        Ok(self.out.show(&Checked { elapsed_ms: self.elapsed_ms(), step: step.into(), held: true })?)
    }

    /// All of them did.
    pub(super) fn end(&self) -> Result<(), Failure> {
        Ok(self.out.show(&End { elapsed_ms: self.elapsed_ms(), steps: self.held, held: true })?)
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{}", ms / 1000, ms % 1000 / 100)
}

impl View for Checked {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        writeln!(w, "{:>5} s  \u{2713} {}", seconds(self.elapsed_ms), self.step)
    }
}

impl View for End {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        writeln!(w, "{:>5} s  all {} steps held", seconds(self.elapsed_ms), self.steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output;

    #[test]
    fn a_step_and_the_end_are_shown_in_both_forms() {
        let held = Checked { elapsed_ms: 12_345, step: "it held".into(), held: true };
        assert_eq!(
            output::golden(&held),
            " 12.3 s  \u{2713} it held\n{\"elapsed_ms\":12345,\"step\":\"it held\",\"held\":true}\n"
        );
        let end = End { elapsed_ms: 40_000, steps: 9, held: true };
        assert_eq!(
            output::golden(&end),
            " 40.0 s  all 9 steps held\n{\"elapsed_ms\":40000,\"steps\":9,\"held\":true}\n"
        );
    }
}
