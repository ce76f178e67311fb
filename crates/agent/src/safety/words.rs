//! The words of a command line as a POSIX shell makes them, quotes and backslashes applied. Pure.
//!
//! What a word is worth only after the shell has run something (`$…`, backticks), and what makes several commands of one
//! line, is not understood here, and is reported as that.

/// One word of a command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Word {
    /// What the program is given, where the word is not a pattern.
    pub(super) text: String,
    /// Whether the shell may replace it by the names of files.
    pub(super) is_pattern: bool,
    /// Whether those names replace its beginning too, so that one of them may be an option.
    begins_as_pattern: bool,
}

impl Word {
    /// Whether the program may take the word for an option.
    pub(super) fn may_be_option(&self) -> bool {
        self.begins_as_pattern || self.text.starts_with('-')
    }

    fn push_pattern(&mut self, c: char) {
        self.begins_as_pattern |= self.text.is_empty();
        self.is_pattern = true;
        self.text.push(c);
    }
}

/// The commands of a line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// Each has a word at least. Where the line is not understood they are a guess.
    pub(super) commands: Vec<Vec<Word>>,
    /// Whether the line is one command, whose words are known.
    pub(super) is_understood: bool,
}

/// What the reader is in the middle of.
#[derive(Debug, Default)]
struct Reader {
    commands: Vec<Vec<Word>>,
    words: Vec<Word>,
    /// `None` between words. An empty pair of quotes is a word.
    word: Option<Word>,
    is_unclear: bool,
}

impl Reader {
    fn word(&mut self) -> &mut Word {
        self.word.get_or_insert_default()
    }

    fn end_word(&mut self) {
        self.words.extend(self.word.take());
    }

    fn end_command(&mut self) {
        self.end_word();
        if !self.words.is_empty() {
            self.commands.push(std::mem::take(&mut self.words));
        }
    }

    /// A character that makes several commands, or a word that is not known.
    fn unclear(&mut self) {
        self.is_unclear = true;
        self.end_command();
    }
}

/// Reads a line.
pub(super) fn read(line: &str) -> Line {
    let mut reader = Reader::default();
    let mut chars = line.trim_matches([' ', '\t', '\n']).chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' => reader.end_word(),
            '\'' => single_quoted(&mut reader, &mut chars),
            '"' => double_quoted(&mut reader, &mut chars),
            '\\' => match chars.next() {
                Some('\n') | None => reader.unclear(),
                Some(escaped) => {
                    // For fish `\x2d` is a hyphen.
                    reader.is_unclear |= escaped.is_ascii_alphanumeric();
                    reader.word().text.push(escaped);
                }
            },
            '\n' | ';' | '|' | '&' | '<' | '>' | '(' | ')' | '{' | '}' | '$' | '`' => reader.unclear(),
            // The rest of the line is a comment.
            '#' if reader.word.is_none() => reader.unclear(),
            // Shells differ in what they take for a blank.
            c if c.is_control() || c.is_whitespace() => reader.unclear(),
            '*' | '?' | '[' => reader.word().push_pattern(c),
            c => reader.word().text.push(c),
        }
    }
    reader.end_command();
    let is_understood = !reader.is_unclear && reader.commands.len() == 1;
    Line { commands: reader.commands, is_understood }
}

fn single_quoted(reader: &mut Reader, chars: &mut std::str::Chars<'_>) {
    reader.word();
    let mut before = None;
    for c in chars {
        match c {
            '\'' => {
                // For fish the quote does not end here.
                if before == Some('\\') {
                    reader.unclear();
                }
                return;
            }
            c => reader.word().text.push(c),
        }
        before = Some(c);
    }
    reader.unclear();
}

fn double_quoted(reader: &mut Reader, chars: &mut std::str::Chars<'_>) {
    reader.word();
    while let Some(c) = chars.next() {
        match c {
            '"' => return,
            '$' | '`' => reader.unclear(),
            '\\' => match chars.next() {
                Some(escaped @ ('$' | '`' | '\\')) => reader.word().text.push(escaped),
                // For csh the quote ends at this one.
                Some('"' | '\n') | None => reader.unclear(),
                Some(other) => reader.word().text.extend(['\\', other]),
            },
            c => reader.word().text.push(c),
        }
    }
    reader.unclear();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<String> {
        let read = read(line);
        assert!(read.is_understood, "{line}");
        read.commands[0].iter().map(|word| word.text.clone()).collect()
    }

    #[test]
    fn quotes_and_backslashes_are_applied() {
        for (line, expected) in [
            ("  a  b\t c ", vec!["a", "b", "c"]),
            ("a 'b c' \"d e\"", vec!["a", "b c", "d e"]),
            ("r\"g\" '-'\"-pre\"", vec!["rg", "--pre"]),
            (r#"a \-\-b "\$x \\ \n""#, vec!["a", "--b", r"$x \ \n"]),
            ("a '' \"\"", vec!["a", "", ""]),
            ("a '$(b)' 'c|d;e' x#y", vec!["a", "$(b)", "c|d;e", "x#y"]),
            ("a *.rs b/?", vec!["a", "*.rs", "b/?"]),
        ] {
            assert_eq!(texts(line), expected, "{line}");
        }
    }

    #[test]
    fn what_only_a_shell_knows_is_not_understood() {
        for line in [
            "",
            "a; b",
            "a\nb",
            "a & ",
            "a | b",
            "a > b",
            "a < b",
            "(a)",
            "{ a; }",
            "a {b,c}",
            "a $b",
            "a \"$b\"",
            "a `b`",
            "a \"`b`\"",
            "a $'b'",
            "a 'b",
            "a \"b",
            "a \\",
            "a b\\\nc",
            "a \"b\\\nc\"",
            "a # b",
            "a 'b\\' '; c'",
            "a \"b\\\" ; c\"",
            "a\u{a0}b",
            "a\rb",
        ] {
            assert!(!read(line).is_understood, "{line:?}");
        }
    }

    #[test]
    fn a_pattern_may_become_an_option() {
        let word = |text: &str| read(&format!("a {text}")).commands[0][1].clone();
        for (text, expected) in [
            ("*", true),
            ("?x", true),
            ("''[a]", true),
            ("-x", true),
            ("'-'x", true),
            ("x*", false),
            ("./*", false),
            ("'*'", false),
            ("\\*", false),
        ] {
            assert_eq!(word(text).may_be_option(), expected, "{text}");
        }
        assert!(word("x*").is_pattern && !word("'x*'").is_pattern);
    }
}
