//! The arguments of `legwork approve` and `legwork deny`.

use clap::Args;

/// Arguments of `legwork approve`.
#[derive(Debug, Args)]
pub struct ApproveArgs {
    /// The job's id, or an unambiguous prefix of it of four characters or more [default: list what waits]
    pub id: Option<String>,
    /// The call or question, by its number [default: the only one]
    #[arg(long, value_name = "N", requires = "id", value_parser = clap::value_parser!(u32).range(1..))]
    pub call: Option<u32>,
    /// The answer to a question: a text, or a JSON object where the question asks for several values
    #[arg(long, value_name = "TEXT", requires = "id")]
    pub answer: Option<String>,
}

/// Arguments of `legwork deny`.
#[derive(Debug, Args)]
pub struct DenyArgs {
    /// The job's id, or an unambiguous prefix of it of four characters or more
    pub id: String,
    /// The reason, which the agent is given
    pub why: Vec<String>,
    /// The call or question, by its number [default: the only one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub call: Option<u32>,
}
