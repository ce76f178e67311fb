//! Logs on standard error, as text or JSON. Standard output is for answers only.
//!
//! Times are UTC. A bare level, such as `debug`, is for our own crates; libraries stay at `info` or above,
//! because some of them log requests with their headers below that, and so secrets. Libraries whose failures we report
//! ourselves, with the job that they belong to, are silent. The details of a library need its name: `info,redis=debug`.

use std::io;
use std::io::IsTerminal as _;
use std::panic;
use std::str::FromStr;
use std::sync::Arc;

use legwork_common::error::Coded;
use legwork_common::error::ExitStatus;
use legwork_common::secrets::Secrets;
use legwork_common::trace::SPAN_TARGET;
use thiserror::Error;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;

use crate::spans;
use crate::spans::SpanExport;
use crate::spans::SpanSettings;
use crate::tasks::panic_message;

/// Libraries that log the failure of each call without saying whose it was, while its caller reports it with job, agent
/// and cause: the client of model providers, and the one of the Model Context Protocol.
const SILENT: &str = "genai=off,rmcp=off";

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One line of text, for people; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object for each line, for log collectors.
    Json,
}

impl FromStr for LogFormat {
    type Err = TelemetryError;

    fn from_str(text: &str) -> Result<Self, TelemetryError> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(TelemetryError::Format { format: text.to_owned() }),
        }
    }
}

/// Why logging could not be set up.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The filter has a word that is neither a level nor `target=level`.
    #[error("`{level}` is not a log level")]
    Level {
        /// The word as it was given.
        level: String,
    },
    /// The filter has a `target=level` that cannot be parsed.
    #[error("log filter `{filter}` cannot be parsed")]
    Filter {
        /// The whole filter.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// The word is not a format.
    #[error("`{format}` is not a log format")]
    Format {
        /// The word as it was given.
        format: String,
    },
    /// Logging was set up already in this process.
    #[error("logging is set up already")]
    Again,
}

impl Coded for TelemetryError {
    fn code(&self) -> &'static str {
        match self {
            Self::Level { .. } => "log_level",
            Self::Filter { .. } => "log_filter",
            Self::Format { .. } => "log_format",
            Self::Again => "log_again",
        }
    }

    fn exit(&self) -> ExitStatus {
        ExitStatus::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Level { .. } | Self::Filter { .. } => {
                Some("use off, error, warn, info, debug or trace, or a list like info,redis=debug".to_owned())
            }
            Self::Format { .. } => Some("use text or json".to_owned()),
            Self::Again => None,
        }
    }
}

/// Writes logs of this process to standard error from now on, panics too, without the values of `secrets`; and takes spans
/// where `spans` says where to, which the answer sends once it is [started](SpanExport::start). What is wrong with these
/// settings is logged, and no reason not to run. Call it once, first in `main`.
///
/// # Errors
///
/// [`TelemetryError`] for an invalid level, or when called a second time; nothing is changed then.
pub fn init(
    level: &str,
    format: LogFormat,
    secrets: Secrets,
    spans: Result<Option<SpanSettings>, String>,
) -> Result<Option<SpanExport>, TelemetryError> {
    let colour = io::stderr().is_terminal();
    let secrets = Arc::new(secrets);
    let writer = move || LineWriter {
        secrets: Arc::clone(&secrets),
        is_text: format == LogFormat::Text,
        inner: io::stderr(),
    };
    let (settings, wrong) = match spans {
        Ok(settings) => (settings, None),
        Err(wrong) => (None, Some(wrong)),
    };
    let (layer, export) = settings.map(spans::layer).unzip();
    let subscriber =
        tracing_subscriber::registry().with(log_layer(level, format, colour, writer)?).with(layer);
    tracing::subscriber::set_global_default(subscriber).map_err(|_set_before| TelemetryError::Again)?;
    panic::set_hook(Box::new(|info| {
        let location = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(location, message = panic_message(info.payload()), "panicked");
    }));
    if let Some(wrong) = wrong {
        tracing::warn!("spans are not exported: {wrong}");
    }
    Ok(export)
}

/// Writes log lines without secrets, each as one line. The library writes a line at once, so that none is cut.
struct LineWriter<W> {
    secrets: Arc<Secrets>,
    /// Whether line breaks within the line are not escaped yet, as they are in JSON.
    is_text: bool,
    inner: W,
}

impl<W: io::Write> io::Write for LineWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let redacted = self.secrets.redacted(&text);
        match redacted.strip_suffix('\n') {
            Some(line) if self.is_text && line.contains(['\n', '\r']) => {
                // What a job or a peer wrote must not look like a line of ours.
                let line = line.replace('\n', "\\n").replace('\r', "\\r");
                self.inner.write_all(format!("{line}\n").as_bytes())?;
            }
            _ => self.inner.write_all(redacted.as_bytes())?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Builds the layer of log lines that [`init`] installs, for any writer.
fn log_layer<S, W>(
    level: &str,
    format: LogFormat,
    colour: bool,
    writer: W,
) -> Result<Box<dyn Layer<S> + Send + Sync>, TelemetryError>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let filter = filter(level)?;
    // A closed standard error must not end the program.
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).log_internal_errors(false);
    Ok(match format {
        // Only ever switched off here: by default the library honours NO_COLOR.
        LogFormat::Text if colour => layer.with_filter(filter).boxed(),
        LogFormat::Text => layer.with_ansi(false).with_filter(filter).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_span_list(false).with_filter(filter).boxed(),
    })
}

/// Parses a level or a list of directives. The library takes any word for a target and would log
/// everything of it, so a word that is not a level is rejected here.
fn filter(text: &str) -> Result<EnvFilter, TelemetryError> {
    let mut directives = Vec::new();
    for word in text.split(',').map(str::trim) {
        if word.contains('=') {
            directives.push(word.to_owned());
            continue;
        }
        // The parser also takes an empty word and digits for levels.
        let is_name = !word.is_empty() && !word.starts_with(|first: char| first.is_ascii_digit());
        let Some(level) = word.parse::<LevelFilter>().ok().filter(|_| is_name) else {
            return Err(TelemetryError::Level { level: word.to_owned() });
        };
        directives.insert(0, format!("{},{SILENT},legwork={level}", level.min(LevelFilter::INFO)));
    }
    // Spans that are exported are not for people.
    directives.push(format!("{SPAN_TARGET}=off"));
    EnvFilter::try_new(directives.join(","))
        .map_err(|source| TelemetryError::Filter { filter: text.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use tracing::subscriber::with_default;

    use super::*;

    /// The log lines that `log` writes at `level`.
    fn written(level: &str, format: LogFormat, log: impl FnOnce()) -> String {
        let sink = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&sink);
        let layer = log_layer(level, format, false, move || Sink(Arc::clone(&writer))).unwrap();
        let subscriber = tracing_subscriber::registry().with(layer);
        with_default(subscriber, log);
        String::from_utf8(sink.lock().unwrap().clone()).unwrap()
    }

    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_text_line_has_utc_time_level_and_fields() {
        let line = written("info", LogFormat::Text, || tracing::info!(job = "7", "claimed"));
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.ends_with('Z'), "{line}");
        assert!(rest.contains(" INFO ") && rest.ends_with("claimed job=\"7\"\n"), "{line}");
        assert!(!line.contains('\u{1b}'), "no colour off a terminal: {line}");
    }

    #[test]
    fn a_log_line_is_one_line_without_secrets() {
        let secrets = Secrets::of(&BTreeMap::from([("A_KEY".to_owned(), "canary-canary".to_owned())]));
        let (sink, secrets) = (Arc::new(Mutex::new(Vec::new())), Arc::new(secrets));
        let inner = Arc::clone(&sink);
        let writer = move || LineWriter {
            secrets: Arc::clone(&secrets),
            is_text: true,
            inner: Sink(Arc::clone(&inner)),
        };
        let layer = log_layer("info", LogFormat::Text, false, writer).unwrap();
        let subscriber = tracing_subscriber::registry().with(layer);
        let error = "refused\n2026-01-01T00:00:00Z  INFO forged\r";
        with_default(subscriber, || tracing::info!(key = "canary-canary", %error, "bad key: canary-canary"));
        let text = String::from_utf8(sink.lock().unwrap().clone()).unwrap();
        assert!(text.contains("bad key: [hidden: A_KEY]") && !text.contains("canary"), "{text}");
        assert!(text.contains(r"error=refused\n2026-01-01T00:00:00Z  INFO forged\r"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }

    #[test]
    fn a_json_line_is_one_object() {
        let line = written("info", LogFormat::Json, || tracing::info!(job = "7", "claimed"));
        assert!(line.starts_with("{\"timestamp\":\"") && line.ends_with("}\n"), "{line}");
        assert!(line.contains("\"message\":\"claimed\"") && line.contains("\"job\":\"7\""), "{line}");
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn lines_have_the_fields_of_their_span_and_exported_spans_are_in_none() {
        let log = || {
            let job = tracing::error_span!(target: "legwork_worker", "attempt", job = "7");
            let exported = tracing::info_span!(target: SPAN_TARGET, "chat", model = "m");
            job.in_scope(|| exported.in_scope(|| tracing::warn!(target: "legwork_agent", "slow")));
        };
        let text = written("warn", LogFormat::Text, log);
        assert!(
            text.contains("attempt{job=\"7\"}: legwork_agent: slow\n") && !text.contains("chat"),
            "{text}"
        );
        let json = written("warn", LogFormat::Json, log);
        assert!(json.contains(r#""span":{"job":"7","name":"attempt"}"#) && !json.contains("chat"), "{json}");
    }

    #[test]
    fn a_bare_level_sets_our_crates_and_keeps_libraries_at_info() {
        let lines = written("trace", LogFormat::Text, || {
            tracing::trace!(target: "legwork_queue::link", "ours");
            tracing::debug!(target: "hyper::proto", "authorization: secret");
            tracing::info!(target: "hyper::proto", "library");
        });
        assert!(lines.contains("ours") && lines.contains("library"), "{lines}");
        assert!(!lines.contains("secret"), "{lines}");
    }

    #[test]
    fn libraries_whose_failures_we_report_are_silent_unless_they_are_named() {
        let failure = || tracing::error!(target: "genai::webc", "error");
        assert_eq!(written("info", LogFormat::Text, failure), "");
        for level in ["info,genai=error", "genai=error,info"] {
            assert!(written(level, LogFormat::Text, failure).contains("ERROR"), "{level}");
        }
    }

    #[test]
    fn a_named_library_is_logged_at_its_own_level() {
        let lines = written("warn,hyper=debug", LogFormat::Text, || {
            tracing::debug!(target: "hyper::proto", "asked for");
            tracing::info!(target: "legwork_queue", "not asked for");
        });
        assert!(lines.contains("asked for") && !lines.contains("not asked for"), "{lines}");
    }

    #[test]
    fn words_that_are_not_levels_are_rejected() {
        for text in ["verbose", "", "info,loud", "3", "info,"] {
            assert!(matches!(filter(text), Err(TelemetryError::Level { .. })), "{text:?} was accepted");
        }
        assert!(matches!(filter("legwork=loud"), Err(TelemetryError::Filter { .. })));
        for text in ["off", "INFO", "info, redis=debug"] {
            assert!(filter(text).is_ok(), "{text:?} was rejected");
        }
    }

    #[test]
    fn formats_are_parsed() {
        assert_eq!("text".parse::<LogFormat>().unwrap(), LogFormat::Text);
        assert_eq!("json".parse::<LogFormat>().unwrap(), LogFormat::Json);
        assert!("JSON5".parse::<LogFormat>().is_err());
    }
}
