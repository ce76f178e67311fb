//! One command in a process group of its own.
//!
//! A task of the nursery owns the child for as long as the group lives, so the group's id stays reserved
//! until the last signal was sent: whoever drops a handle leaves nothing behind.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::io::PipeReader;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
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

use crate::environment::ProcessGuard;

/// What is kept of a command's output: its head.
const OUTPUT_BYTES: usize = 10 * 1024 * 1024;
/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// How long output is read on after the command has ended while something still holds its pipe.
const LEFTOVER_OUTPUT: Duration = Duration::from_millis(100);
/// How often a group that was told to end is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Where the processes of one run live, and what ends them.
#[derive(Debug, Clone)]
pub(crate) struct Nursery {
    tasks: TaskTracker,
    closing: CancellationToken,
    guard: Arc<dyn ProcessGuard>,
}

impl Nursery {
    /// An empty one, whose groups `guard` hears of.
    pub(crate) fn new(guard: Arc<dyn ProcessGuard>) -> Self {
        Self { tasks: TaskTracker::new(), closing: CancellationToken::new(), guard }
    }

    /// A command that the guard hears of before it runs. Where the program is not there, the command starts all
    /// the same, and ends with the status 127 and a line on standard error.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut words = self.guard.before().into_iter();
        let Some(first) = words.next() else { return Command::new(program) };
        let mut command = Command::new(first);
        command.args(words).arg(program);
        command
    }

    /// While this guard is there nothing happens; its drop tells every process to end, and waits for none.
    pub(crate) fn abandoning(&self) -> DropGuard {
        self.closing.clone().drop_guard()
    }

    /// Cancelled when everything here has to end.
    pub(crate) fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Lets `work` run here. It ends by itself soon after [`closing`](Self::closing) is cancelled: closing waits for it.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(work);
    }

    /// Ends every process and returns when all are gone: SIGTERM, and SIGKILL after two seconds.
    pub(crate) async fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// The output so far.
#[derive(Debug, Default)]
pub(crate) struct Capture {
    bytes: Vec<u8>,
    pub(crate) truncated: bool,
}

impl Capture {
    fn push(&mut self, piece: &[u8]) {
        let room = OUTPUT_BYTES - self.bytes.len();
        self.bytes.extend_from_slice(&piece[..piece.len().min(room)]);
        self.truncated |= piece.len() > room;
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    /// `None` where the system did not say.
    pub(crate) status: Option<ExitStatus>,
}

/// A running command. Dropping it lets the command run on until it ends or the toolset closes.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    capture: Arc<Mutex<Capture>>,
    pub(crate) stop: CancellationToken,
    ended: watch::Receiver<Option<End>>,
}

impl Process {
    /// Starts `command` in a group of its own, with standard output and standard error in one pipe.
    ///
    /// # Errors
    ///
    /// The system's, where the program or the folder is not there.
    pub(crate) fn start(mut command: Command, nursery: &Nursery) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        Self::launch(command, receiver(reader)?, nursery)
    }

    /// Starts `command` in a group of its own with `input` on its standard input. Its standard output is the
    /// caller's to read, standard error is captured.
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
            // A program need not read its input, and may end before it has.
            closing.run_until_cancelled(sender.write_all(&input)).await
        });
        Ok((process, output))
    }

    /// Starts `command` in a group of its own. Its standard output and input are the caller's to read and to write,
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
        let child = command.process_group(0).spawn()?;
        // The command holds the other ends of the pipes: without this drop they would never end.
        drop(command);
        let capture = Arc::default();
        let stop = nursery.closing.child_token();
        let (end, ended) = watch::channel(None);
        let attended = Attended {
            group: Group::of(&child, Arc::clone(&nursery.guard)),
            child,
            output: Some(output),
            capture: Arc::clone(&capture),
        };
        nursery.tasks.spawn(attended.attend(stop.clone(), nursery.closing.clone(), end));
        Ok(Self { capture, stop, ended })
    }

    /// The output so far.
    pub(crate) fn capture(&self) -> MutexGuard<'_, Capture> {
        self.capture.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it ended, if it has.
    pub(crate) fn end(&self) -> Option<End> {
        *self.ended.borrow()
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> End {
        match self.ended.wait_for(Option::is_some).await {
            Ok(end) => end.unwrap_or(End { status: None }),
            Err(_) => End { status: None },
        }
    }
}

/// The reading end, for this runtime.
fn receiver(reader: PipeReader) -> io::Result<pipe::Receiver> {
    pipe::Receiver::from_owned_fd(OwnedFd::from(reader))
}

/// `exit status 1`, `signal 9`.
pub(crate) fn described(status: Option<ExitStatus>) -> String {
    let Some(status) = status else { return "unknown exit status".to_owned() };
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown exit status".to_owned(),
    }
}

/// A child with everything that must be seen to while it lives.
struct Attended {
    child: Child,
    group: Option<Group>,
    output: Option<pipe::Receiver>,
    capture: Arc<Mutex<Capture>>,
}

impl Attended {
    async fn attend(
        mut self,
        stop: CancellationToken,
        closing: CancellationToken,
        end: watch::Sender<Option<End>>,
    ) {
        let status = tokio::select! {
            status = run(&mut self.child, &mut self.output, &self.capture) => status,
            () = stop.cancelled() => self.end_group().await,
        };
        if timeout(LEFTOVER_OUTPUT, read(&mut self.output, &self.capture)).await.is_err() {
            tracing::debug!("a command ended and left something that holds its output");
        }
        end.send_replace(Some(End { status }));
        if self.group.as_ref().is_some_and(Group::lives) {
            // What the command left in the background lives on until the run ends, as far as it writes to nobody.
            tokio::select! {
                () = closing.cancelled() => {}
                () = discard(&mut self.output) => closing.cancelled().await,
            }
            if self.group.as_ref().is_some_and(Group::lives) {
                self.end_group().await;
            }
        }
    }

    /// SIGTERM, then SIGKILL to whatever is left; returns when the group is gone.
    async fn end_group(&mut self) -> Option<ExitStatus> {
        let Some(group) = &self.group else { return None };
        group.signal(Signal::TERM);
        let gone = async {
            let status = run(&mut self.child, &mut self.output, &self.capture).await;
            while group.lives() {
                sleep(LOOK).await;
            }
            status
        };
        if let Ok(status) = timeout(GRACE, gone).await {
            return status;
        }
        group.signal(Signal::KILL);
        let status = self.child.wait().await.ok();
        // Nothing survives this signal; the rest of the group only needs a moment to be gone.
        let gone = async {
            while group.lives() {
                sleep(LOOK).await;
            }
        };
        timeout(GRACE, gone).await.ok();
        status
    }
}

/// Reads the output until the child has ended.
async fn run(
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

/// Reads the output until nobody can write to it any more.
async fn read(output: &mut Option<pipe::Receiver>, capture: &Mutex<Capture>) {
    let mut piece = vec![0; 16 * 1024];
    while let Some(pipe) = output.as_mut() {
        match pipe.read(&mut piece).await {
            Ok(0) | Err(_) => *output = None,
            Ok(length) => capture.lock().unwrap_or_else(PoisonError::into_inner).push(&piece[..length]),
        }
    }
}

/// Reads the output to nowhere, so that what was left behind does not block.
async fn discard(output: &mut Option<pipe::Receiver>) {
    read(output, &Mutex::new(Capture { bytes: Vec::new(), truncated: true })).await;
}

/// The group of a child that leads it.
#[derive(Debug)]
struct Group {
    id: Pid,
    guard: Arc<dyn ProcessGuard>,
}

impl Group {
    /// The group, and the guard knows of it; `None` where the child has ended and was reaped.
    fn of(child: &Child, guard: Arc<dyn ProcessGuard>) -> Option<Self> {
        let number = child.id().filter(|&number| number > 1)?;
        let id = i32::try_from(number).ok().and_then(Pid::from_raw)?;
        guard.started(number);
        Some(Self { id, guard })
    }

    fn signal(&self, signal: Signal) {
        // A group that is gone needs no signal.
        rustix::process::kill_process_group(self.id, signal).ok();
    }

    /// Whether any process of the group lives.
    ///
    /// A dead process that nobody waits for keeps its group, and where the first process of a container waits for
    /// nobody, it does so for ever: where the system shows its processes, these do not count.
    fn lives(&self) -> bool {
        rustix::process::test_kill_process_group(self.id).is_ok() && self.shown_alive().unwrap_or(true)
    }

    /// What `/proc` says, where there is one.
    fn shown_alive(&self) -> Option<bool> {
        let group = self.id.as_raw_nonzero().get();
        let all = fs::read_dir("/proc").ok()?;
        let stats = all.filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
        let mut any = false;
        for stat in stats {
            any = true;
            // `pid (name) state parent group …`, and the name may hold anything.
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
        // Dropped in the middle, with a runtime that ends, the group may live: then it is the guard's.
        if !self.lives() {
            self.guard.ended(self.id.as_raw_nonzero().get().unsigned_abs());
        }
    }
}
