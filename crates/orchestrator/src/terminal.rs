//! The terminal of `run`: prompts, and approvals of tool calls that an agent may not make without asking.

use std::io::IsTerminal as _;
use std::sync::Arc;

use async_trait::async_trait;
use legwork_agent::person::Person;
use legwork_common::question::Answer;
use legwork_common::question::Question;
use legwork_common::service::CallIndex;
use legwork_common::service::ServiceError;
use tokio::io::AsyncBufReadExt as _;
use tokio::io::BufReader;
use tokio::io::Lines;
use tokio::io::Stdin;
use tokio::sync::Mutex;

use crate::panel::Screen;

/// A terminal with one reader at a time: concurrent questions are asked one after the other.
#[derive(Debug)]
pub struct Terminal {
    screen: Arc<Screen>,
    // Held across an await on purpose, so that the next question is printed when this one is answered.
    lines: Mutex<Lines<BufReader<Stdin>>>,
}

impl Terminal {
    /// The user's terminal; `None` unless questions can be read on standard error and answered on standard input.
    pub fn find(screen: &Arc<Screen>) -> Option<Arc<Self>> {
        let interactive = std::io::stdin().is_terminal() && screen.is_live();
        interactive.then(|| Self::on(screen))
    }

    /// A terminal on standard input, even if that is a file or a pipe.
    pub fn on(screen: &Arc<Screen>) -> Arc<Self> {
        let lines = Mutex::new(BufReader::new(tokio::io::stdin()).lines());
        Arc::new(Self { screen: Arc::clone(screen), lines })
    }

    /// The next line; `None` at the end of input. Dropping the future loses nothing: a partly read line stays buffered
    /// for the next reader.
    pub async fn line(&self) -> Option<String> {
        self.lines.lock().await.next_line().await.ok().flatten()
    }
}

impl Terminal {
    /// Asks on the terminal. `who` asks, as the subject of a sentence.
    pub async fn answer(&self, who: &str, question: &Question) -> Answer {
        let mut lines = self.lines.lock().await;
        let Question::Approval { tool, arguments, .. } = question else {
            return self.text(who, question, &mut lines).await;
        };
        self.say(&format!("{who} wants to call {tool} {}", plain(arguments)));
        self.say("allow it? (y/N)");
        let answer = lines.next_line().await.ok().flatten().unwrap_or_default();
        match answer.trim().to_lowercase().as_str() {
            "y" | "yes" => Answer::Approved,
            _ => Answer::Denied { why: None },
        }
    }

    /// The answer to a question of an agent, which is asked again until it fits; an empty line declines.
    async fn text(&self, who: &str, question: &Question, lines: &mut Lines<BufReader<Stdin>>) -> Answer {
        self.say(&format!("{who} asks: {}", plain(&question.text())));
        loop {
            self.say("your answer (an empty line declines):");
            let line = lines.next_line().await.ok().flatten().unwrap_or_default();
            if line.trim().is_empty() {
                return Answer::Denied { why: None };
            }
            match question.approved_with(Some(line.trim())) {
                Ok(answer) => return answer,
                Err(unfit) => self.say(&unfit),
            }
        }
    }
    /// Prints a line of a question at once: it waits for no line of an answer.
    fn say(&self, line: &str) {
        self.screen.settle();
        self.screen.note(line);
    }
}

#[async_trait]
impl Person for Terminal {
    fn is_durable(&self) -> bool {
        false
    }

    async fn ask(&self, _call: CallIndex, question: &Question) -> Result<Answer, ServiceError> {
        Ok(self.answer("the agent", question).await)
    }
}

/// The arguments of a call in full, because an approval covers all of them. Control characters are escaped: they could
/// hide part of the question on a terminal.
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
    fn a_question_shows_all_arguments_and_escapes_control_characters() {
        let long = format!("{{\"cmd\": \"echo {}; rm -rf .\"}}", "x".repeat(400));
        assert_eq!(plain(&long), long);
        assert_eq!(plain("{\n  \"cmd\": \"ö \\n\"\n}\n"), "{\\n  \"cmd\": \"ö \\n\"\\n}");
        assert_eq!(plain("\u{1b}[2K\u{202e}\u{9b}A"), "\\u{1b}[2K\\u{202e}\\u{9b}A");
    }
}
