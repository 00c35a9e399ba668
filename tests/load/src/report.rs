//! What was measured: a table for people, and JSON for programs.

use serde::Serialize;

/// One figure beside its goal.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    id: &'static str,
    what: String,
    /// What is judged; of latencies what is beyond an empty call and a sync of the disk.
    measured: f64,
    goal: f64,
    unit: &'static str,
    reached: bool,
    /// What else was seen, the raw figures among it.
    more: String,
}

impl Figure {
    /// A figure that shall not be above its goal.
    pub(crate) fn at_most(
        goal: f64,
        unit: &'static str,
        measured: f64,
        (id, what): (&'static str, String),
        more: String,
    ) -> Self {
        Self { id, what, measured, goal, unit, reached: measured <= goal, more }
    }

    /// A figure that shall not be below its goal.
    pub(crate) fn at_least(
        goal: f64,
        unit: &'static str,
        measured: f64,
        (id, what): (&'static str, String),
        more: String,
    ) -> Self {
        Self { id, what, measured, goal, unit, reached: measured >= goal, more }
    }
}

/// All that one run says.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// CPU of one P-256 signature by aws-lc-rs, microseconds.
    pub(crate) signature_us: f64,
    /// The median of a sync of the disk, milliseconds.
    pub(crate) fdatasync_ms: f64,
    pub(crate) figures: Vec<Figure>,
}

impl Report {
    /// Adds figures, and prints their lines of the table.
    pub(crate) fn add(&mut self, figures: impl IntoIterator<Item = Figure>) {
        for figure in figures {
            let Figure { id, what, measured, goal, unit, reached, more } = &figure;
            let reached = if *reached { "yes" } else { "no" };
            println!("| {id} | {what} | {measured:.2} {unit} | {goal} {unit} | {reached} | {more} |");
            self.figures.push(figure);
        }
    }

    /// Prints the head of the table.
    pub(crate) fn begin(&self) {
        println!("P-256 signature: {:.1} us CPU; fdatasync p50 {:.2} ms\n", self.signature_us, self.fdatasync_ms);
        println!("| figure | what | measured | goal | reached | more |\n|---|---|---|---|---|---|");
    }
}
