//! Commands, each in a process group of its own, and the nursery that ends them.
//!
//! A task of the nursery owns each child and its group until the group is gone. In this process it alone waits for
//! the child and signals the group, so no signal reaches an id that the system has reused, and a handle that is
//! dropped leaves nothing running unwatched.

mod exit_text;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::io::PipeReader;
use std::os::fd::OwnedFd;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;
use tokio_util::task::TaskTracker;

pub(crate) use self::exit_text::describe_exit;
use crate::environment::MetLimit;
use crate::environment::ProcessGuard;

/// Bytes that are kept of a command's output, from its beginning. Far more than a model is given, but a bound on
/// what a command in an endless loop takes of memory.
const MAX_OUTPUT_BYTES: usize = 10 * 1024 * 1024;
/// Bytes that are kept of all commands of one run together. A model may start any number of background commands.
const MAX_RUN_OUTPUT_BYTES: usize = 32 * 1024 * 1024;
/// Time between SIGTERM and SIGKILL. A cancelled run must end within about this time.
const GRACE_PERIOD: Duration = Duration::from_secs(2);
/// How long output is still read after the command has ended, where a background process of it holds the pipe open.
/// Enough for what is in the pipe already; waiting for the end of the pipe could take forever.
pub(crate) const TRAILING_OUTPUT_TIMEOUT: Duration = Duration::from_millis(100);
/// How long what a run started may take to end. Processes take four seconds at most, and servers one to be notified; twice
/// that means that the system cannot end a process, or that a connection hangs.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Poll interval for the end of a signalled group: the system reports the end of a child, but not that of a group.
const GROUP_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Owns the processes of one run, and ends them.
#[derive(Debug, Clone)]
pub(crate) struct Nursery {
    tasks: TaskTracker,
    closing: CancellationToken,
    guard: Arc<dyn ProcessGuard>,
    captures: CaptureBudget,
}

impl Nursery {
    /// An empty nursery. `guard` is notified of each process group.
    pub(crate) fn new(guard: Arc<dyn ProcessGuard>) -> Self {
        let captures = CaptureBudget(Arc::new(AtomicUsize::new(MAX_RUN_OUTPUT_BYTES)));
        Self { tasks: TaskTracker::new(), closing: CancellationToken::new(), guard, captures }
    }

    /// A command that registers with the guard before it runs. With a guard, a program that does not exist is not
    /// an error of the start: the command ends with status 127 and a line on standard error.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut prefix = self.guard.command_prefix().into_iter();
        let Some(launcher) = prefix.next() else { return Command::new(program) };
        let mut command = Command::new(launcher);
        command.args(prefix).arg(program);
        command
    }

    /// A guard whose drop begins to end every process, without waiting for any: for a run whose future is dropped.
    pub(crate) fn close_on_drop(&self) -> DropGuard {
        self.closing.clone().drop_guard()
    }

    /// Cancelled when the nursery closes.
    pub(crate) fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Spawns a task of the run. It must end soon after [`closing`](Self::closing) is cancelled, because
    /// [`close`](Self::close) waits for it.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(work);
    }

    /// Ends every process, with SIGTERM and after two seconds SIGKILL. Returns when all are gone, or after
    /// [`CLOSE_TIMEOUT`].
    pub(crate) async fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
        if timeout(CLOSE_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!("what a run started did not end in time");
        }
    }
}

/// The bytes that the commands of one run may still keep. All clones are one.
#[derive(Debug, Clone, Default)]
struct CaptureBudget(Arc<AtomicUsize>);

impl CaptureBudget {
    /// Takes up to `wanted` bytes; returns how many.
    fn take(&self, wanted: usize) -> usize {
        let mut taken = 0;
        // Relaxed is enough: the number guards no other data. The closure always returns a value.
        let _before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            taken = wanted.min(left);
            Some(left - taken)
        });
        taken
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The output of a command so far, its head only where it is too long, or where the commands of the run have too much
/// together.
#[derive(Debug, Default)]
pub(crate) struct Capture {
    bytes: Vec<u8>,
    budget: CaptureBudget,
    /// Whether output was dropped after the head.
    pub(crate) truncated: bool,
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes.len());
    }
}

impl Capture {
    fn new(budget: CaptureBudget) -> Self {
        Self { bytes: Vec::new(), budget, truncated: false }
    }

    fn push(&mut self, chunk: &[u8]) {
        // After the first gap nothing is kept: what follows would look as if it belonged there.
        let room = if self.truncated { 0 } else { MAX_OUTPUT_BYTES - self.bytes.len() };
        let kept = self.budget.take(chunk.len().min(room));
        self.bytes.extend_from_slice(&chunk[..kept]);
        self.truncated |= chunk.len() > kept;
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// How a command ended. Processes that it left in the background may still run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    /// `None` where the exit status could not be determined.
    pub(crate) status: Option<ExitStatus>,
}

/// A handle of a command. Dropping it does not end the command: it runs until it ends or the nursery closes.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    capture: Arc<Mutex<Capture>>,
    /// Cancel it to end the whole group.
    pub(crate) stop: CancellationToken,
    ended: watch::Receiver<Option<End>>,
    guard: Arc<dyn ProcessGuard>,
    /// The limits of the run before it started.
    limits_before: Vec<MetLimit>,
}

impl Process {
    /// Starts `command` in a group of its own, with standard output and standard error captured together.
    ///
    /// # Errors
    ///
    /// The system's, where the program or the working directory does not exist.
    pub(crate) fn start(mut command: Command, nursery: &Nursery) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        Self::launch(command, receiver(reader)?, nursery)
    }

    /// Starts `command` in a group of its own with `input` on its standard input. The caller reads its standard
    /// output; standard error is captured.
    ///
    /// # Errors
    ///
    /// Those of [`start`](Self::start).
    pub(crate) fn start_with(
        command: Command,
        input: Vec<u8>,
        nursery: &Nursery,
    ) -> io::Result<(Self, pipe::Receiver)> {
        let (process, output, mut sender) = Self::start_piped(command, nursery)?;
        let closing = nursery.closing.clone();
        nursery.tasks.spawn(async move {
            // An error is not a failure: a program may end without reading all of its input.
            closing.run_until_cancelled(sender.write_all(&input)).await
        });
        Ok((process, output))
    }

    /// Starts `command` in a group of its own. The caller reads its standard output and writes its standard input;
    /// standard error is captured.
    ///
    /// # Errors
    ///
    /// Those of [`start`](Self::start).
    pub(crate) fn start_piped(
        mut command: Command,
        nursery: &Nursery,
    ) -> io::Result<(Self, pipe::Receiver, pipe::Sender)> {
        let (input_reader, input_writer) = io::pipe()?;
        let (output_reader, output_writer) = io::pipe()?;
        let (error_reader, error_writer) = io::pipe()?;
        let sender = pipe::Sender::from_owned_fd(OwnedFd::from(input_writer))?;
        let output = receiver(output_reader)?;
        command.stdin(input_reader).stdout(output_writer).stderr(error_writer);
        let process = Self::launch(command, receiver(error_reader)?, nursery)?;
        Ok((process, output, sender))
    }

    fn launch(mut command: Command, output: pipe::Receiver, nursery: &Nursery) -> io::Result<Self> {
        let limits_before = nursery.guard.met_limits();
        let child = command.process_group(0).spawn()?;
        // The command holds the child's ends of the pipes. Unless they are dropped here, our ends never see an end
        // of file.
        drop(command);
        let capture = Arc::new(Mutex::new(Capture::new(nursery.captures.clone())));
        let stop = nursery.closing.child_token();
        let (end, ended) = watch::channel(None);
        let supervised = Supervised {
            group: Group::of(&child, Arc::clone(&nursery.guard)),
            child,
            output: Some(output),
            capture: Arc::clone(&capture),
        };
        nursery.tasks.spawn(supervised.supervise(stop.clone(), nursery.closing.clone(), end));
        Ok(Self { capture, stop, ended, guard: Arc::clone(&nursery.guard), limits_before })
    }

    /// The output so far for the agent, with a line for each limit that the commands of the run have met since this one
    /// started.
    pub(crate) fn text(&self) -> String {
        let now = self.guard.met_limits();
        let met = now.iter().zip(&self.limits_before).filter(|(now, before)| now.count > before.count);
        let mut text = self.capture().text();
        for (limit, _) in met {
            let separator = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
            text.push_str(&format!("{separator}[{}]\n", limit.meaning));
        }
        text
    }

    /// The output so far. Do not hold the lock over an await: the task that reads the output needs it.
    pub(crate) fn capture(&self) -> MutexGuard<'_, Capture> {
        self.capture.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the command ended; `None` while it runs.
    pub(crate) fn end(&self) -> Option<End> {
        *self.ended.borrow()
    }

    /// Waits for the end of the command. Processes that it left in the background may still run.
    pub(crate) async fn ended(&mut self) -> End {
        match self.ended.wait_for(Option::is_some).await {
            Ok(end) => end.unwrap_or(End { status: None }),
            Err(_) => End { status: None },
        }
    }
}

/// The reading end of a pipe for async reads.
fn receiver(reader: PipeReader) -> io::Result<pipe::Receiver> {
    pipe::Receiver::from_owned_fd(OwnedFd::from(reader))
}

/// A child with its group and its output, as the task that owns it sees them.
struct Supervised {
    child: Child,
    group: Option<Group>,
    output: Option<pipe::Receiver>,
    capture: Arc<Mutex<Capture>>,
}

impl Supervised {
    /// Reads the output and waits for the end, of the command first and then of its group. `stop` ends this group,
    /// `closing` whatever is left of it when the run ends.
    async fn supervise(
        mut self,
        stop: CancellationToken,
        closing: CancellationToken,
        end: watch::Sender<Option<End>>,
    ) {
        // A command that ends just when it is stopped may win this race. What it left in the background then ends
        // with the run, as after any other command.
        let status = tokio::select! {
            status = read_until_exit(&mut self.child, &mut self.output, &self.capture) => status,
            () = stop.cancelled() => self.end_group().await,
        };
        if timeout(TRAILING_OUTPUT_TIMEOUT, read(&mut self.output, &self.capture)).await.is_err() {
            tracing::debug!("a command left a background process that holds its output open");
        }
        end.send_replace(Some(End { status }));
        if self.group.as_ref().is_some_and(Group::is_alive) {
            // A background process of the command may run until the run ends. Its output is read and dropped, so
            // that a full pipe does not block it.
            tokio::select! {
                () = closing.cancelled() => {}
                () = discard(&mut self.output) => closing.cancelled().await,
            }
            if self.group.as_ref().is_some_and(Group::is_alive) {
                self.end_group().await;
            }
        }
    }

    /// Sends SIGTERM, then SIGKILL to whatever is left after the grace period. Returns when the group is gone.
    async fn end_group(&mut self) -> Option<ExitStatus> {
        let Some(group) = &self.group else { return None };
        group.signal(Signal::TERM);
        let gone = async {
            let status = read_until_exit(&mut self.child, &mut self.output, &self.capture).await;
            while group.is_alive() {
                sleep(GROUP_POLL_INTERVAL).await;
            }
            status
        };
        if let Ok(status) = timeout(GRACE_PERIOD, gone).await {
            return status;
        }
        group.signal(Signal::KILL);
        // No process survives SIGKILL, but the system needs a moment to remove the group; one that hangs in the system,
        // as on a dead network file system, may take forever.
        let gone = async {
            let status = self.child.wait().await.ok();
            while group.is_alive() {
                sleep(GROUP_POLL_INTERVAL).await;
            }
            status
        };
        timeout(GRACE_PERIOD, gone).await.unwrap_or_default()
    }
}

/// Reads the output until the child has ended. The end of the output alone does not count: a command may close it
/// early.
async fn read_until_exit(
    child: &mut Child,
    output: &mut Option<pipe::Receiver>,
    capture: &Mutex<Capture>,
) -> Option<ExitStatus> {
    let reading = async {
        read(output, capture).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        status = child.wait() => status.ok(),
        () = reading => None,
    }
}

/// Reads the output until every process that could write to it has closed it.
async fn read(output: &mut Option<pipe::Receiver>, capture: &Mutex<Capture>) {
    let mut chunk = vec![0; 16 * 1024];
    while let Some(pipe) = output.as_mut() {
        match pipe.read(&mut chunk).await {
            Ok(0) | Err(_) => *output = None,
            Ok(length) => capture.lock().unwrap_or_else(PoisonError::into_inner).push(&chunk[..length]),
        }
    }
}

/// Reads the output and drops it.
async fn discard(output: &mut Option<pipe::Receiver>) {
    let nothing = Capture { bytes: Vec::new(), budget: CaptureBudget::default(), truncated: true };
    read(output, &Mutex::new(nothing)).await;
}

/// A process group that our child leads.
#[derive(Debug)]
struct Group {
    id: Pid,
    guard: Arc<dyn ProcessGuard>,
}

impl Group {
    /// The group of a child, registered with the guard; `None` where the child has ended and was reaped.
    fn of(child: &Child, guard: Arc<dyn ProcessGuard>) -> Option<Self> {
        let number = child.id().filter(|&number| number > 1)?;
        let id = i32::try_from(number).ok().and_then(Pid::from_raw)?;
        guard.started(number);
        Some(Self { id, guard })
    }

    fn signal(&self, signal: Signal) {
        // An error means that the group is gone already.
        rustix::process::kill_process_group(self.id, signal).ok();
    }

    /// Whether any process of the group is alive.
    ///
    /// A zombie keeps its group, and keeps it forever where the first process of a container does not reap orphans.
    /// Where `/proc` shows the processes, zombies do not count.
    fn is_alive(&self) -> bool {
        rustix::process::test_kill_process_group(self.id).is_ok() && self.is_alive_in_proc().unwrap_or(true)
    }

    /// Whether `/proc` shows a process of the group that is not a zombie; `None` where there is no `/proc`.
    fn is_alive_in_proc(&self) -> Option<bool> {
        let group = self.id.as_raw_nonzero().get();
        let entries = fs::read_dir("/proc").ok()?;
        let stats = entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
        let mut any = false;
        for stat in stats {
            any = true;
            // `pid (name) state parent group …`; the name may contain anything, parentheses included.
            let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
            let dead = matches!(fields.next(), Some("Z" | "X"));
            if !dead && fields.nth(1).and_then(|field| field.parse().ok()) == Some(group) {
                return Some(true);
            }
        }
        any.then_some(false)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Where the runtime ends while the group is alive, the group stays registered, and the guard ends it.
        if !self.is_alive() {
            self.guard.ended(self.id.as_raw_nonzero().get().unsigned_abs());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::NoGuard;

    #[tokio::test(start_paused = true)]
    async fn a_nursery_closes_although_a_task_of_it_hangs() {
        let nursery = Nursery::new(Arc::new(NoGuard));
        nursery.spawn(std::future::pending());
        nursery.close().await;
        assert!(nursery.closing().is_cancelled());
    }

    #[tokio::test]
    async fn two_hundred_commands_share_one_bound_of_captured_output() {
        let nursery = Nursery::new(Arc::new(NoGuard));
        let print = || {
            let mut command = nursery.command("head");
            command.args(["-c", "300000", "/dev/zero"]);
            Process::start(command, &nursery).unwrap()
        };
        let mut commands: Vec<Process> = (0..200).map(|_| print()).collect();
        for command in &mut commands {
            command.ended().await;
        }
        let kept: usize = commands.iter().map(|command| command.capture().bytes.len()).sum();
        let cut = commands.iter().filter(|command| command.capture().truncated).count();
        // They print 60 MB in all.
        assert_eq!((kept, cut > 80), (MAX_RUN_OUTPUT_BYTES, true), "{cut} of 200 were cut");
        drop(commands);
        // What is dropped makes room, once the tasks that read it have ended too.
        let room = async {
            loop {
                let mut after = print();
                after.ended().await;
                if after.capture().bytes.len() == 300_000 {
                    return;
                }
            }
        };
        timeout(Duration::from_secs(20), room).await.unwrap();
        nursery.close().await;
    }
}
