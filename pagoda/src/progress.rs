//! Progress on long work: a bar on a terminal, plain lines in a log.

use std::{
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const LINE_EVERY: Duration = Duration::from_secs(5);

/// A bar on standard error, hidden where that is no terminal; its total may be set later.
pub(crate) fn bar(what: &'static str, unit: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let template = format!("{{prefix:10}} [{{bar:24}}] {{human_pos:>9}} / {{human_len}} {unit}  {{wide_msg}}");
    let style = ProgressStyle::with_template(&template).expect("the template is well-formed");
    bar.set_style(style.progress_chars("=> "));
    bar.set_prefix(what);
    bar
}

/// Progress of several stages, one after another.
pub(crate) struct Stages {
    bar: ProgressBar,
    stage: &'static str,
    terminal: bool,
    last_line: Instant,
}

impl Stages {
    pub(crate) fn new(unit: &'static str) -> Self {
        Self { bar: bar("", unit), stage: "", terminal: stderr().is_terminal(), last_line: Instant::now() }
    }

    /// Shows where a stage is; in a log, one line at its start, one every few seconds, and one at its end.
    pub(crate) fn show(&mut self, stage: &'static str, done: u64, total: u64, message: String) {
        let begins = stage != self.stage;
        if begins {
            self.stage = stage;
            self.bar.reset();
            self.bar.set_prefix(stage);
        }
        self.bar.set_length(total);
        self.bar.set_position(done);
        if !self.terminal && (begins || done == total || self.last_line.elapsed() >= LINE_EVERY) {
            self.last_line = Instant::now();
            eprintln!("{stage}: {done} of {total}{}{message}", if message.is_empty() { "" } else { ", " });
        }
        self.bar.set_message(message);
    }

    /// A line that stays.
    pub(crate) fn line(&self, text: &str) {
        if self.terminal {
            self.bar.println(text);
        } else {
            eprintln!("{text}");
        }
    }

    pub(crate) fn end(self) {
        self.bar.finish_and_clear();
    }
}
