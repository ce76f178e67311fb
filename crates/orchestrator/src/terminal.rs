//! The terminal that a root's user types on: prompts, and answers to what an agent may not do without asking.

use std::io::IsTerminal as _;
use std::sync::Arc;

use async_trait::async_trait;
use legwork_agent::permission::Approval;
use tokio::io::AsyncBufReadExt as _;
use tokio::io::BufReader;
use tokio::io::Lines;
use tokio::io::Stdin;
use tokio::sync::Mutex;

use crate::panel::Screen;
use crate::render::first_line;

/// The most characters of a call's arguments that are shown.
const SHOWN: usize = 200;

/// A terminal. Who reads a line has it alone: questions wait for each other.
#[derive(Debug)]
pub struct Terminal {
    screen: Arc<Screen>,
    // Held over an await on purpose: the next question is asked when this one is answered.
    lines: Mutex<Lines<BufReader<Stdin>>>,
}

impl Terminal {
    /// The user's terminal, if somebody is there to see a question and to answer.
    pub fn find(screen: &Arc<Screen>) -> Option<Arc<Self>> {
        let somebody = std::io::stdin().is_terminal() && screen.is_seen();
        somebody.then(|| Self::on(screen))
    }

    /// Standard input, whatever it is.
    pub fn on(screen: &Arc<Screen>) -> Arc<Self> {
        let lines = Mutex::new(BufReader::new(tokio::io::stdin()).lines());
        Arc::new(Self { screen: Arc::clone(screen), lines })
    }

    /// The next line; `None` at the end. Dropped in the middle, the line is there for the next reader.
    pub async fn line(&self) -> Option<String> {
        self.lines.lock().await.next_line().await.ok().flatten()
    }
}

#[async_trait]
impl Approval for Terminal {
    async fn approves(&self, tool: &str, arguments: &str) -> bool {
        let mut lines = self.lines.lock().await;
        self.screen.note(&format!("the agent wants to call {tool} {}", first_line(arguments, SHOWN)));
        self.screen.note("may it? (y/N)");
        let answer = lines.next_line().await.ok().flatten().unwrap_or_default();
        matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
    }
}
