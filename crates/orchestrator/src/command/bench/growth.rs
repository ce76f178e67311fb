//! Jobs that do nothing, in growing numbers: whether a job costs the same however many there are.

use legwork_queue::operator::bench::Measurement;
use serde::Serialize;

use super::Row;
use super::no_op;
use crate::failure::Failure;

/// The least number of jobs; each step has ten times as many.
const FIRST: u32 = 1000;

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    section: &'static str,
    steps: Vec<no_op::Figures>,
}

/// Measures 1,000 jobs, then ten times as many, up to `jobs`. Ended jobs of the steps before stay.
pub(super) async fn measure(measurement: &Measurement, jobs: u32) -> Result<Figures, Failure> {
    let mut steps = Vec::new();
    let mut count = FIRST;
    while count <= jobs.max(FIRST) {
        steps.push(no_op::measure(measurement, count).await?);
        count = count.saturating_mul(10);
    }
    Ok(Figures { section: "growth", steps })
}

impl Row for Figures {
    fn text(&self) -> String {
        self.steps.iter().map(|step| format!("{}\n", step.line())).collect()
    }
}
