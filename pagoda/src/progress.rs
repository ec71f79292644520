//! Progress on long work: a bar on a terminal, plain lines in a log.

use std::{
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::tell;

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
    /// Of a log: the line that was last, and when it was.
    last_line: (String, Instant),
}

impl Stages {
    pub(crate) fn new(unit: &'static str) -> Self {
        Self {
            bar: bar("", unit),
            stage: "",
            terminal: stderr().is_terminal(),
            last_line: (String::new(), Instant::now()),
        }
    }

    /// Shows where a stage is; in a log, one line at its start, one every few seconds, and one at its end. A stage of one step is its name.
    pub(crate) fn show(&mut self, stage: &'static str, done: u64, total: u64, message: String) {
        let begins = stage != self.stage;
        if begins {
            self.stage = stage;
            self.bar.reset();
            self.bar.set_prefix(stage);
        }
        self.bar.set_length(total);
        self.bar.set_position(done);
        if !self.terminal && (begins || done == total || self.last_line.1.elapsed() >= LINE_EVERY) {
            self.log(log_line(stage, (done, total), &message));
        }
        self.bar.set_message(message);
    }

    /// A line of a log, but not the same twice.
    fn log(&mut self, line: String) {
        if line != self.last_line.0 {
            tell(&line);
            self.last_line = (line, Instant::now());
        }
    }

    /// A line that stays.
    pub(crate) fn line(&self, text: &str) {
        if self.terminal {
            self.bar.println(text);
        } else {
            tell(text);
        }
    }

    pub(crate) fn end(self) {
        self.bar.finish_and_clear();
    }
}

fn log_line(stage: &str, (done, total): (u64, u64), message: &str) -> String {
    let steps = if total > 1 { format!(": {done} of {total}") } else { String::new() };
    format!("{stage}{steps}{}{message}", if message.is_empty() { "" } else { ", " })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_of_one_step_is_its_name() {
        assert_eq!([0, 1].map(|done| log_line("read", (done, 1), "")), ["read", "read"]);
        assert_eq!(log_line("train", (3, 9), "loss 1.0"), "train: 3 of 9, loss 1.0");
    }
}
