//! A worker: claims jobs and runs their attempts.
//!
//! # Layout
//!
//! - [`supervisor`] decides what happens next; pure.
//! - [`driver`] does it: the one loop, and what runs beside it.
//! - [`claims`]: asks for jobs; [`renewal`]: keeps their leases; [`log_writer`]: writes what they say.
//! - [`attempt`]: one attempt, from claim to finish, in named steps; `copied_turns`: the turns it takes over from a
//!   job that it tries again.
//! - [`held`]: the attempts that it holds; [`cancel`]: why one shall end; [`lease_clock`]: for how long it may act.
//! - [`guard`]: the process that ends the commands of a worker which cannot do it any more.
//! - [`journal`]: what an agent writes, on its way to the log_writer.
//! - [`upkeep`]: looks after what the dead left behind.
//! - [`parking`]: the service that a job sees; a job that waits holds no slot.
//! - [`runner`]: what an attempt runs.
//! - [`limited`]: models behind the fleet's limits.
//! - `silence`: notices when nothing is heard of an attempt.
//! - [`options`]: the command line of `legwork-worker`; [`program`]: its story; [`place`]: where the queue is;
//!   `orphan`: its end without an embedded server.

pub mod active_attempts;
pub mod attempt;
pub mod backend;
pub mod cancel;
pub mod claims;
mod copied_turns;
pub mod driver;
pub mod guard;
pub mod journal;
pub mod lease_clock;
pub mod log_writer;
pub mod options;
pub mod parking;
pub mod program;
pub mod rate_limit;
pub mod renewal;
pub mod runner;
mod server_watch;
mod stall;
pub mod supervisor;
pub mod upkeep;

pub use driver::ShutdownTokens;
pub use driver::Vitals;
pub use driver::Worker;
pub use driver::WorkerSettings;
