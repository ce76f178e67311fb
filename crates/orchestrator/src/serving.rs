//! How a program that serves until a signal begins: `serve` and `mcp`.

use legwork_process::shutdown::Shutdown;
use legwork_process::tasks::TaskKind;
use legwork_process::tasks::Tasks;
use legwork_queue::ConnectionKind;
use legwork_worker::server_watch::end_server_without_folder;

use crate::context::Connection;
use crate::context::Context;
use crate::context::WhileAway;
use crate::failure::Failure;

/// What such a program has from its beginning to its end.
#[derive(Debug)]
pub struct Serving {
    /// Its tasks.
    pub tasks: Tasks,
    /// What a signal ends.
    pub shutdown: Shutdown,
    /// Its connection, to leave at the end.
    pub connection: Connection,
}

impl Serving {
    /// Listens for signals and connects, for as long as Redis is away. `None` where a signal came before.
    ///
    /// The connection is a dedicated one, because clients are not bounded as a pool is.
    ///
    /// # Errors
    ///
    /// [`Failure`] where signals cannot be listened for, or what answers is not a Redis for jobs.
    pub async fn start(context: &Context) -> Result<Option<Self>, Failure> {
        let tasks = Tasks::new();
        let shutdown = Shutdown::listen(&tasks)
            .map_err(|error| Failure::usage(format!("cannot listen for signals: {error}")))?;
        let while_away = WhileAway::Wait { deadline: None };
        let connecting = context.connect_to_sign(ConnectionKind::Dedicated, while_away);
        let Some(connection) = shutdown.drain.run_until_cancelled(connecting).await else { return Ok(None) };
        let connection = connection?;
        if let Some(server) = connection.backend.embedded_server() {
            tasks.spawn(TaskKind::Upkeep, end_server_without_folder(server));
        }
        Ok(Some(Self { tasks, shutdown, connection }))
    }
}
