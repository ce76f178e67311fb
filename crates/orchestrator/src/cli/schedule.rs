//! The arguments of `legwork schedule`.

use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;
use clap::ValueEnum;
use legwork_common::job::parse_name;
use legwork_queue::operator::Missed;
use legwork_queue::operator::Overlap;

use super::JobOptionArgs;

/// Commands of `legwork schedule`.
#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    /// Add a schedule
    Add(Box<ScheduleAddArgs>),
    /// List the schedules, with their next instants and last jobs
    List,
    /// End the firing of a schedule; what runs continues
    Pause {
        /// The schedule
        name: String,
    },
    /// Let a paused schedule fire again, from now on
    Resume {
        /// The schedule
        name: String,
    },
    /// Forget a schedule; what runs continues
    Remove {
        /// The schedule
        name: String,
    },
    /// Dispatch the job of a schedule now, and print its id
    RunNow {
        /// The schedule
        name: String,
    },
}

/// Arguments of `legwork schedule add`.
#[derive(Debug, Args)]
pub struct ScheduleAddArgs {
    /// The name of the schedule
    #[arg(value_parser = parse_name)]
    pub name: String,
    /// Minute, hour, day of the month, month and day of the week, such as '0 7 * * 1-5'
    pub cron: String,
    /// The agent file
    pub file: PathBuf,
    /// The agent to run
    pub agent: String,
    /// The task
    #[arg(required = true)]
    pub task: Vec<String>,
    /// The IANA name of the time zone
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    pub zone: String,
    /// What happens to instants that passed while no worker was there
    #[arg(long, value_name = "POLICY", default_value = "skip")]
    pub missed: MissedArg,
    /// What happens where the last job has not ended: both run, the new one is left out, or the old one is stopped
    #[arg(long, value_name = "POLICY", default_value = "skip")]
    pub overlap: OverlapArg,
    /// What the answer should look like
    #[arg(long, value_name = "TEXT")]
    pub expected_output: Option<String>,
    /// Where the job runs, its limits, and how often it is retried
    #[command(flatten)]
    pub options: JobOptionArgs,
}

/// The values of `--missed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MissedArg {
    /// Nothing
    Skip,
    /// One job for all of them
    One,
    /// One job for each, at most the last hundred
    All,
}

impl From<MissedArg> for Missed {
    fn from(arg: MissedArg) -> Self {
        match arg {
            MissedArg::Skip => Self::Skip,
            MissedArg::One => Self::One,
            MissedArg::All => Self::All,
        }
    }
}

/// The values of `--overlap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OverlapArg {
    /// Both run
    Allow,
    /// The new one is left out
    Skip,
    /// The old one is stopped
    Stop,
}

impl From<OverlapArg> for Overlap {
    fn from(arg: OverlapArg) -> Self {
        match arg {
            OverlapArg::Allow => Self::Allow,
            OverlapArg::Skip => Self::Skip,
            OverlapArg::Stop => Self::Stop,
        }
    }
}
