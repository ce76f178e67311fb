//! The arguments of `legwork keys`.

use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;

/// What becomes of the two halves of a key.
const NEW_HELP: &str = "\
The private key is for --signing-key: of a dispatcher, or with --worker of a worker. The printed line belongs below
`keys:` in the file of --trust of every worker. Trust a new key everywhere before anyone signs with it, and remove the old
one once its jobs have ended.";

/// Commands of `legwork keys`.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key: its private half in a new file, its public half as a line for trust files
    New(NewKeyArgs),
    /// Print the line of a private key for trust files
    Show(ShowKeyArgs),
}

/// Arguments of `legwork keys new`.
#[derive(Debug, Args)]
#[command(after_help = NEW_HELP)]
pub struct NewKeyArgs {
    /// The file of the private key, which must not exist
    pub file: PathBuf,
    /// The name of the key in trust files [default: made of the public key]
    #[arg(long, value_name = "NAME")]
    pub id: Option<String>,
    /// It is a worker's key, which signs the jobs that jobs dispatch
    #[arg(long)]
    pub worker: bool,
}

/// Arguments of `legwork keys show`.
#[derive(Debug, Args)]
pub struct ShowKeyArgs {
    /// The file of the private key
    pub file: PathBuf,
    /// It is a worker's key
    #[arg(long)]
    pub worker: bool,
}
