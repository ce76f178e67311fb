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
        self.screen.note(&format!("the agent wants to call {tool} {}", plain(arguments)));
        self.screen.note("may it? (y/N)");
        let answer = lines.next_line().await.ok().flatten().unwrap_or_default();
        matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
    }
}

/// All of a call's arguments, for whoever says yes says it to all. What does not print is written out.
fn plain(arguments: &str) -> String {
    let mut text = String::with_capacity(arguments.len());
    for character in arguments.trim().chars() {
        match character {
            '"' | '\'' | '\\' => text.push(character),
            other => text.extend(other.escape_debug()),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_asked_sees_all_that_is_asked_for() {
        let long = format!("{{\"cmd\": \"echo {}; rm -rf .\"}}", "x".repeat(400));
        assert_eq!(plain(&long), long);
        assert_eq!(plain("{\n  \"cmd\": \"ö \\n\"\n}\n"), "{\\n  \"cmd\": \"ö \\n\"\\n}");
        assert_eq!(plain("\u{1b}[2K\u{202e}\u{9b}A"), "\\u{1b}[2K\\u{202e}\\u{9b}A");
    }
}
