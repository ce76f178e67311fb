//! The user message that announces ended jobs to their dispatcher.

use std::fmt::Write as _;

use super::block;
use super::body_bytes;
use super::view_body;
use crate::lifecycle::State;
use crate::service::JobView;
use crate::service::Mail;
use crate::service::MailContent;

/// The maximum length of a result that an announcement includes, in bytes. A longer one is only mentioned, so
/// that many jobs that end together do not flood the context of their dispatcher.
pub const MAX_ANNOUNCED_BYTES: usize = 4 * 1024;

/// The maximum length of an announcement, in bytes. Jobs beyond it are counted only.
pub const MAX_ANNOUNCEMENT_BYTES: usize = 32 * 1024;

/// What the first and the last line may need of [`MAX_ANNOUNCEMENT_BYTES`], with room for the counts.
const FRAME_BYTES: usize = 512;

/// The user message that announces the jobs that have ended since the dispatcher's last turn; `None` when the mail
/// contains no ended job. It has at most [`MAX_ANNOUNCEMENT_BYTES`]: results that do not fit are mentioned, and jobs
/// that do not fit are counted.
pub fn announcement(mail: &[Mail]) -> Option<String> {
    let mut text = "Background agent tasks finished since your last turn:\n\n".to_owned();
    let ended = mail.iter().filter_map(|piece| match &piece.content {
        MailContent::Ended(view) => Some(&**view),
        MailContent::Message(_) => None,
    });
    let (mut any, mut uncounted) = (false, Rest::default());
    for view in ended {
        any = true;
        let bytes = body_bytes(view);
        let mention =
            format!("{}  Output: {bytes} bytes, read them with view_background_agent\n\n", block(&view.job),);
        let whole = format!("{}  Output:\n{}\n\n", block(&view.job), view_body(view));
        let fits = |piece: &str| text.len() + piece.len() + FRAME_BYTES <= MAX_ANNOUNCEMENT_BYTES;
        if uncounted.total() > 0 {
            // Once one job is only counted, later ones are too: the list of the rest begins at one place.
            uncounted.add(view);
        } else if view.cut.is_none() && bytes <= MAX_ANNOUNCED_BYTES as u64 && fits(&whole) {
            text.push_str(&whole);
        } else if fits(&mention) {
            text.push_str(&mention);
        } else {
            uncounted.add(view);
        }
    }
    uncounted.write(&mut text);
    any.then_some(text)
}

/// The jobs that an announcement only counts.
#[derive(Default)]
struct Rest {
    completed: u64,
    failed: u64,
    stopped: u64,
}

impl Rest {
    fn add(&mut self, view: &JobView) {
        match view.job.status {
            State::Failed => self.failed += 1,
            State::Stopped => self.stopped += 1,
            _ => self.completed += 1,
        }
    }

    fn total(&self) -> u64 {
        self.completed + self.failed + self.stopped
    }

    fn write(&self, text: &mut String) {
        if self.total() > 0 {
            let Self { completed, failed, stopped } = self;
            let _ = writeln!(
                text,
                "And {} more: {completed} completed, {failed} failed, {stopped} stopped. list_background_agents lists \
                 the newest, view_background_agent and wait_background_agents show results by task id.",
                self.total(),
            );
        }
    }
}
