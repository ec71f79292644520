//! Log lines, to standard error.

use std::{
    fmt,
    io::{IsTerminal, stderr},
};

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use crate::config::{Log, LogFormat};

/// Starts logging. A second call changes nothing.
pub fn init(log: &Log) {
    // `validate` has seen the filter; should it not parse after all, `info` is better than silence.
    let filter = EnvFilter::try_new(&log.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    // A line that cannot be written, on a full disk, say, or to a reader that has gone, is lost; to tell of it there would be a panic of whoever logs.
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).log_internal_errors(false);
    let colours = stderr().is_terminal();
    let _already_started = match log.format {
        LogFormat::Text => {
            lines.with_ansi(colours).with_target(false).map_event_format(|lines| Named::new(log, lines)).try_init()
        }
        LogFormat::Json => lines.json().flatten_event(true).map_event_format(|lines| Named::new(log, lines)).try_init(),
    };
}

/// Lines that begin with the name of the process, which writes it itself: so nothing stands between it and the terminal that could end before it.
struct Named<F> {
    format: LogFormat,
    name: String,
    lines: F,
}

impl<F> Named<F> {
    fn new(log: &Log, lines: F) -> Self {
        Self { format: log.format, name: log.name.clone(), lines }
    }
}

impl<S, N, F> FormatEvent<S, N> for Named<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if self.name.is_empty() {
            return self.lines.format_event(context, to, event);
        }
        match self.format {
            LogFormat::Text => {
                write!(to, "[{}] ", self.name)?;
                self.lines.format_event(context, to, event)
            }
            LogFormat::Json => {
                let mut line = String::new();
                self.lines.format_event(context, Writer::new(&mut line), event)?;
                let fields = line.strip_prefix('{').unwrap_or(&line);
                write!(to, "{{\"service\":{},{fields}", serde_json::Value::from(self.name.as_str()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log(format: LogFormat, name: &str) -> Log {
        Log { format, filter: "info".into(), name: name.into() }
    }

    fn text_of(log: &Log) -> String {
        let written = Written::default();
        let to = written.clone();
        let lines = tracing_subscriber::fmt().with_writer(move || to.clone()).with_ansi(false).without_time();
        let say = || tracing::info!(lsn = 7, "searching");
        match log.format {
            LogFormat::Text => {
                let lines = lines.with_target(false).map_event_format(|lines| Named::new(log, lines));
                tracing::subscriber::with_default(lines.finish(), say);
            }
            LogFormat::Json => {
                let lines = lines.json().flatten_event(true).map_event_format(|lines| Named::new(log, lines));
                tracing::subscriber::with_default(lines.finish(), say);
            }
        }
        String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn lines_begin_with_the_name_where_there_is_one() {
        assert_eq!(text_of(&log(LogFormat::Text, "")), " INFO searching lsn=7\n");
        assert_eq!(text_of(&log(LogFormat::Text, "index-svc")), "[index-svc]  INFO searching lsn=7\n");
    }

    #[test]
    fn lines_of_json_have_the_name_as_a_field() {
        let line: serde_json::Value = serde_json::from_str(&text_of(&log(LogFormat::Json, "index-svc"))).unwrap();
        assert_eq!((&line["service"], &line["lsn"]), (&"index-svc".into(), &7.into()));
        let line: serde_json::Value = serde_json::from_str(&text_of(&log(LogFormat::Json, ""))).unwrap();
        assert_eq!((line.get("service"), &line["message"]), (None, &"searching".into()));
    }
}
