//! The options of a job that `dispatch` and `schedule add` share.

use std::time::Duration;

use clap::Args;
use legwork_common::duration;
use legwork_common::job::JobOptions;
use legwork_common::job::Priority;
use legwork_common::job::parse_name;
use legwork_common::money::SpendingLimit;
use legwork_common::webhook::WebhookUrl;

use super::values;

/// Where a job runs, its limits, and how often it is retried.
#[derive(Debug, Args)]
pub struct JobOptionArgs {
    /// The queue [default: the policy's, else `default`]
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub queue: Option<String>,
    /// The priority [default: the policy's, else normal]
    #[arg(long, value_name = "PRIORITY", value_parser = values::priority())]
    pub priority: Option<Priority>,
    /// The longest that the job may run [default: the policy's, else no limit]
    #[arg(long, value_name = "TIME", value_parser = duration::parse_limit)]
    pub timeout: Option<Duration>,
    /// How many times to retry after a failure [default: the policy's, else 0]
    #[arg(long, value_name = "N")]
    pub retries: Option<u32>,
    /// Delay before the first retry, doubled for each further one up to 10m [default: the policy's, else 5s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub retry_delay: Option<Duration>,
    /// The budget of the job, all attempts together, tokens or money such as `$2.50`; when it is spent, the job fails
    /// with cause `budget`
    #[arg(long, value_name = "LIMIT")]
    pub budget: Option<SpendingLimit>,
    /// Report the end of the job to this URL, signed, by a worker or server that has LEGWORK_WEBHOOK_SECRET [default: the
    /// policy's, else nowhere]
    #[arg(long, value_name = "URL")]
    pub notify: Option<WebhookUrl>,
}

impl JobOptionArgs {
    /// These options, and the policy's where none is given.
    pub fn or(&self, default: JobOptions) -> JobOptions {
        JobOptions {
            queue: self.queue.clone().unwrap_or(default.queue),
            priority: self.priority.unwrap_or(default.priority),
            timeout: self.timeout.or(default.timeout),
            retries: self.retries.unwrap_or(default.retries),
            retry_delay: self.retry_delay.unwrap_or(default.retry_delay),
            budget: self.budget.or(default.budget),
            notify: self.notify.clone().or(default.notify),
            ..default
        }
    }
}
