//! The commands, one file each: parse, call the operator's handle, show the answer.

mod approve;
mod bench;
mod check;
mod completions;
mod configure;
mod delete;
mod dispatch;
mod doctor;
mod explain;
mod keys;
mod list;
mod local;
mod man;
mod mcp;
mod pause;
mod retry;
mod run;
mod schedule;
mod send;
mod serve;
mod stats;
mod stop;
mod top;
mod view;
mod wait;
mod workers;

use legwork_common::error::ExitStatus;

use crate::cli::Command;
use crate::context::Context;
use crate::failure::Failure;

/// Runs a command and returns the program's exit status.
///
/// # Errors
///
/// [`Failure`], which the caller prints once.
pub async fn execute(context: Context, command: Command) -> Result<ExitStatus, Failure> {
    match command {
        // Boxed where the future is large: all commands share one stack frame here.
        Command::Run(args) => Box::pin(run::run(context, args)).await,
        Command::Dispatch(args) => Box::pin(dispatch::dispatch(context, args)).await,
        Command::List(args) => list::list(context, args).await,
        Command::View(args) => Box::pin(view::view(context, args)).await,
        Command::Explain(args) => explain::explain(context, args).await,
        Command::Wait(args) => wait::wait(context, args).await,
        Command::Stop(args) => stop::stop(context, args).await,
        Command::Retry(args) => Box::pin(retry::retry(context, args)).await,
        Command::Delete(args) => delete::delete(context, args).await,
        Command::Send(args) => send::send(context, args).await,
        Command::Approve(args) => approve::approve(context, args).await,
        Command::Deny(args) => approve::deny(context, args).await,
        Command::Check(args) => check::check(&context, &args),
        Command::Doctor(args) => doctor::doctor(context, args).await,
        Command::Top => Box::pin(top::top(context)).await,
        Command::Serve(args) => Box::pin(serve::serve(context, args)).await,
        Command::Stats => stats::stats(context).await,
        Command::Workers(args) => workers::workers(context, args).await,
        Command::Pause(args) => pause::pause(context, &args.queue).await,
        Command::Unpause(args) => pause::unpause(context, &args.queue).await,
        Command::Schedule(command) => Box::pin(schedule::schedule(context, command)).await,
        Command::Configure(args) => configure::configure(context, args).await,
        Command::Completions(args) => completions::completions(&context, &args),
        Command::Man(args) => man::man(&context, &args),
        Command::Keys(command) => keys::keys(&context, &command),
        Command::Mcp(args) => Box::pin(mcp::mcp(context, args)).await,
        Command::Local(command) => local::local(&context, command).await,
        Command::Bench(args) => Box::pin(bench::bench(context, args)).await,
    }
}
