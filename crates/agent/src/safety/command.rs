//! The label of a command of the shell, from its words. Pure.

use super::Label;
use super::words;
use super::words::Word;

/// What a program that only reads may be given without doing more than that.
#[derive(Debug, Clone, Copy)]
enum Options {
    /// Anything.
    Any,
    /// Anything but these long options, whole or abbreviated: the program has too many to name the others.
    Except(&'static [&'static str]),
    /// These and no others.
    Only(Only),
    /// Nothing.
    None,
}

/// The options that a program may be given.
#[derive(Debug, Clone, Copy)]
struct Only {
    /// Letters without a value.
    flags: &'static str,
    /// Letters whose value is the rest of the word, or the next one.
    valued: &'static str,
    /// Long ones, never abbreviated.
    long: &'static [&'static str],
    /// How a word that is not an option must begin.
    operands: &'static str,
}

/// Programs that only read, given such options.
const READERS: [(&str, Options); 28] = [
    ("ls", Options::Any),
    ("pwd", Options::Any),
    ("cat", Options::Any),
    ("head", Options::Any),
    ("tail", Options::Any),
    ("wc", Options::Any),
    ("grep", Options::Any),
    ("rg", Options::Only(RG)),
    ("echo", Options::Any),
    // `-v` evaluates the name of its variable, with the commands in it.
    ("printf", Options::Only(Only { flags: "", valued: "", long: &[], operands: "" })),
    ("date", Options::Only(DATE)),
    ("whoami", Options::Any),
    ("id", Options::Any),
    ("uname", Options::Any),
    ("which", Options::Any),
    ("stat", Options::Any),
    ("file", Options::Only(FILE)),
    ("du", Options::Any),
    ("df", Options::Any),
    ("tree", Options::Only(TREE)),
    ("basename", Options::Any),
    ("dirname", Options::Any),
    ("realpath", Options::Any),
    ("true", Options::Any),
    ("seq", Options::Any),
    ("cut", Options::Any),
    ("node --version", Options::None),
    ("python3 --version", Options::None),
];
/// All but those that run a program on each file (`--pre`, `--hostname-bin`, `-z`).
const RG: Only = Only {
    flags: "iSsnNlLcvwxFPUuHIpoqahb0.V",
    valued: "ABCEMTdefgjmrt",
    long: &[
        "after-context",
        "auto-hybrid-regex",
        "before-context",
        "binary",
        "byte-offset",
        "case-sensitive",
        "color",
        "colors",
        "column",
        "context",
        "count",
        "count-matches",
        "crlf",
        "encoding",
        "engine",
        "file",
        "files",
        "files-with-matches",
        "files-without-match",
        "fixed-strings",
        "follow",
        "glob",
        "glob-case-insensitive",
        "heading",
        "hidden",
        "iglob",
        "ignore-case",
        "ignore-file",
        "invert-match",
        "json",
        "line-number",
        "line-regexp",
        "max-columns",
        "max-columns-preview",
        "max-count",
        "max-depth",
        "max-filesize",
        "multiline",
        "multiline-dotall",
        "no-config",
        "no-filename",
        "no-heading",
        "no-ignore",
        "no-ignore-parent",
        "no-ignore-vcs",
        "no-line-number",
        "no-messages",
        "null",
        "one-file-system",
        "only-matching",
        "passthru",
        "path-separator",
        "pcre2",
        "pretty",
        "quiet",
        "regexp",
        "replace",
        "smart-case",
        "sort",
        "sortr",
        "stats",
        "text",
        "threads",
        "trim",
        "type",
        "type-list",
        "type-not",
        "unrestricted",
        "version",
        "vimgrep",
        "with-filename",
        "word-regexp",
    ],
    operands: "",
};
/// A word without a `+` sets the clock, as `-s` does.
const DATE: Only = Only {
    flags: "uRI",
    valued: "dr",
    long: &["date", "iso-8601", "reference", "rfc-3339", "rfc-email", "universal", "utc"],
    operands: "+",
};
/// `-C` writes a file, and `-z` runs programs that unpack.
const FILE: Only = Only {
    flags: "bihIkLNprsv0",
    valued: "F",
    long: &[
        "brief",
        "dereference",
        "keep-going",
        "mime",
        "mime-encoding",
        "mime-type",
        "no-dereference",
        "no-pad",
        "raw",
        "separator",
        "version",
    ],
    operands: "",
};
/// `-o` writes a file, and `-R` one in each folder. The values of letters are words of their own.
const TREE: Only = Only {
    flags: "adfilxpsuhgDFqNQrtcUASnCvJXLPIHT",
    valued: "",
    long: &[
        "charset",
        "device",
        "dirsfirst",
        "du",
        "filelimit",
        "filesfirst",
        "gitignore",
        "ignore-case",
        "inodes",
        "matchdirs",
        "noreport",
        "prune",
        "si",
        "sort",
        "timefmt",
        "version",
    ],
    operands: "",
};
/// Commands of git that only read, unless the configuration of the repository names a program.
const GIT_READERS: [&str; 7] = ["status", "log", "diff", "show", "blame", "rev-parse", "ls-files"];
/// What writes a file or runs a program of the configuration.
const GIT_OPTIONS: Options = Options::Except(&["output", "ext-diff", "textconv", "show-signature", "help"]);
/// Options of git that are the beginning of one that is not allowed, and are another one.
const GIT_OTHERS: [&str; 1] = ["--text"];

/// Programs that destroy, end or reach something that does not come back.
const DESTRUCTIVE_PROGRAMS: [&str; 24] = [
    "rm",
    "rmdir",
    "dd",
    "shred",
    "mkfs",
    "fdisk",
    "parted",
    "shutdown",
    "reboot",
    "halt",
    "poweroff",
    "kill",
    "killall",
    "pkill",
    "chmod",
    "chown",
    "sudo",
    "su",
    "doas",
    "truncate",
    "crontab",
    "systemctl",
    "iptables",
    "mv",
];
/// Pairs of words, the first the program and the second one of its arguments, that destroy.
const DESTRUCTIVE_ARGUMENTS: [(&str, &str); 18] = [
    ("git", "push"),
    ("git", "reset"),
    ("git", "clean"),
    ("git", "checkout"),
    ("git", "rebase"),
    ("find", "-delete"),
    ("find", "-exec"),
    ("find", "-execdir"),
    ("find", "-ok"),
    ("docker", "rm"),
    ("docker", "rmi"),
    ("docker", "prune"),
    ("kubectl", "delete"),
    ("terraform", "destroy"),
    ("terraform", "apply"),
    ("npm", "publish"),
    ("cargo", "publish"),
    ("sed", "-i"),
];
/// Programs that run the program, or the command line, that is among their arguments.
const RUNNERS: [&str; 19] = [
    "env", "xargs", "nohup", "time", "timeout", "nice", "stdbuf", "setsid", "command", "exec", "builtin",
    "eval", "sh", "bash", "dash", "zsh", "ksh", "busybox", "watch",
];
/// Command lines in command lines that are read. More of them are not meant to be read by people either.
const MAX_DEPTH: usize = 4;

/// The label of a command line. One of several commands, or with words that only a shell knows, is never safe.
pub(super) fn label(line: &str) -> Label {
    let read = words::read(line);
    match read.commands.as_slice() {
        [command] if read.is_understood && is_safe(command) => Label::Safe,
        _ if is_destructive_line(line, MAX_DEPTH) => Label::Destructive,
        _ => Label::Unknown,
    }
}

fn is_safe(command: &[Word]) -> bool {
    let [program, rest @ ..] = command else { return false };
    let second = rest.first().map(|word| word.text.as_str()).unwrap_or_default();
    if program.is_pattern {
        return false;
    }
    if program.text == "git" {
        return GIT_READERS.contains(&second)
            && !rest.iter().any(asks_for_signature)
            && permits(GIT_OPTIONS, rest);
    }
    let both = format!("{} {second}", program.text);
    let options =
        |name: &str| READERS.iter().find(|(reader, _)| *reader == name).map(|(_, options)| *options);
    match (options(&program.text), options(&both)) {
        (Some(options), _) => {
            permits(options, rest) && (program.text != "printf" || !rest.iter().any(is_evaluated))
        }
        (None, Some(options)) => permits(options, rest.get(1..).unwrap_or_default()),
        (None, None) => false,
    }
}

/// Whether a shell may evaluate the word a second time: some take the numbers of `printf` for expressions.
fn is_evaluated(word: &Word) -> bool {
    word.text.contains(['$', '`'])
}

/// Whether git runs a program for this word, which checks a signature: `%G?`, `%+GK` and the like in a format.
fn asks_for_signature(word: &Word) -> bool {
    word.text
        .split('%')
        .skip(1)
        .any(|placeholder| placeholder.trim_start_matches(['+', '-', ' ']).starts_with('G'))
}

/// Whether a program may be given these words.
fn permits(options: Options, words: &[Word]) -> bool {
    match options {
        Options::Any => true,
        Options::None => words.is_empty(),
        Options::Except(refused) => words.iter().all(|word| {
            let is_refused = |name: &str| refused.iter().any(|refused| refused.starts_with(name));
            let name = word.text.strip_prefix("--").map(|text| text.split('=').next().unwrap_or(text));
            match name {
                _ if !word.may_be_option() => true,
                _ if word.is_pattern => false,
                Some("") | None => true,
                Some(name) => GIT_OTHERS.contains(&word.text.as_str()) || !is_refused(name),
            }
        }),
        Options::Only(only) => only.permits(words),
    }
}

impl Only {
    fn permits(&self, words: &[Word]) -> bool {
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let text = word.text.as_str();
            let is_permitted = match text.strip_prefix("--") {
                _ if !word.may_be_option() || text == "-" => text.starts_with(self.operands),
                _ if word.is_pattern => false,
                // What follows is still judged as if it were options: this may be the value of the word before.
                Some("") => true,
                Some(long) => self.long.contains(&long.split('=').next().unwrap_or(long)),
                None => self.permits_letters(text, &mut words),
            };
            if !is_permitted {
                return false;
            }
        }
        true
    }

    /// Judges a word of letters, and takes the next word where that is a value.
    fn permits_letters<'w>(&self, text: &str, words: &mut impl Iterator<Item = &'w Word>) -> bool {
        let letters = text.trim_start_matches('-');
        for (at, letter) in letters.char_indices() {
            if self.valued.contains(letter) {
                let is_attached = letters.len() > at + letter.len_utf8();
                return is_attached || words.next().is_none_or(|value| !value.may_be_option());
            }
            if !self.flags.contains(letter) && !letter.is_ascii_digit() {
                return false;
            }
        }
        true
    }
}

/// Whether a command of the line destroys something. Of a line that is not understood, what is in its quotes counts too.
fn is_destructive_line(line: &str, depth: usize) -> bool {
    let is_separator = |c: char| "\n;|&<>`$(){}\"'".contains(c);
    let read = words::read(line);
    let naive = line.split(is_separator).map(|part| words::read(part).commands);
    let naive: Vec<Vec<Word>> = if read.is_understood { Vec::new() } else { naive.flatten().collect() };
    read.commands.iter().chain(&naive).any(|command| is_destructive(command, depth))
}

fn is_destructive(command: &[Word], depth: usize) -> bool {
    // Variables before a program are not its name, nor is the folder that it is in.
    let mut words = command.iter().map(|word| word.text.as_str()).skip_while(|word| word.contains('='));
    let program = base_name(words.next().unwrap_or_default());
    let arguments: Vec<&str> = words.collect();
    let named = |pair: &(&str, &str)| pair.0 == program && arguments.contains(&pair.1);
    is_destructive_program(program)
        || DESTRUCTIVE_ARGUMENTS.iter().any(named)
        || RUNNERS.contains(&program)
            && depth > 0
            && arguments
                .iter()
                .any(|word| is_destructive_program(base_name(word)) || is_destructive_line(word, depth - 1))
}

fn is_destructive_program(program: &str) -> bool {
    DESTRUCTIVE_PROGRAMS.contains(&program) || program.starts_with("mkfs.")
}

fn base_name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

#[cfg(test)]
mod tests;
