//! What a person reads: tables and figures. Programs get `--json`.

use std::{
    io::{self, Write},
    time::{Duration, UNIX_EPOCH},
};

use anyhow::Result;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};
use serde::Serialize;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// As wide is what is printed where there is no terminal to ask.
const WIDTH: u16 = 80;
/// The last time that can be written with four digits a year.
const YEAR_9999_MS: i64 = 253_402_300_799_000;

/// A table with a header, as wide as the terminal at most, or [`WIDTH`]; `numbers` names the columns that are set flush right.
pub(crate) fn table(header: &[&str], numbers: &[usize], rows: Vec<Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    if table.width().is_none() {
        table.set_width(WIDTH);
    }
    for row in rows {
        table.add_row(row);
    }
    for &column in numbers {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The same with one line a row: the last column is cut off where there is no room for it, all others are whole.
pub(crate) fn table_of_lines(header: &[&str], numbers: &[usize], rows: Vec<Vec<String>>) -> Table {
    let mut table = table(header, numbers, rows);
    table.set_truncation_indicator("…");
    for row in table.row_iter_mut() {
        row.max_height(1);
    }
    for column in table.column_iter_mut().take(header.len() - 1) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
    table
}

/// An error and its causes, each said once: some say themselves what caused them.
pub(crate) fn told(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !told.contains(cause.trim()) {
            told.push_str(if told.is_empty() { "" } else { ": " });
            told.push_str(&cause);
        }
    }
    told
}

/// A message with its lines folded to [`WIDTH`].
pub(crate) fn folded(message: &str) -> String {
    message.lines().map(fold).collect::<Vec<_>>().join("\n")
}

/// A line broken between words where it is wider than [`WIDTH`]; what goes on is set deeper than it began. What stands in backticks may be a command to copy,
/// and is whole.
fn fold(line: &str) -> String {
    let indent = line.len() - line.trim_start().len();
    let (mut folded, mut used) = (line[..indent].to_owned(), indent);
    let mut quoted = false;
    let at_space = |sign: char| {
        quoted ^= sign == '`';
        sign == ' ' && !quoted
    };
    for (place, word) in line[indent..].split(at_space).enumerate() {
        let width = word.width();
        if place > 0 && used + 1 + width > usize::from(WIDTH) {
            folded.push('\n');
            folded.push_str(&" ".repeat(indent + 2));
            used = indent + 2;
        } else if place > 0 {
            folded.push(' ');
            used += 1;
        }
        folded.push_str(word);
        used += width;
    }
    folded
}

/// What a person should know beside a result, folded to [`WIDTH`].
pub(crate) fn noted(text: &str) -> String {
    folded(&format!("note: {text}"))
}

/// Prints a line; a reader that has gone (`| head`) is no failure, a full disk is one.
pub(crate) fn say(text: impl std::fmt::Display) {
    if let Err(error) = writeln!(io::stdout().lock(), "{text}") {
        if error.kind() == io::ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        tell(format_args!("error: the output cannot be written: {error}"));
        std::process::exit(1);
    }
}

/// Writes a line to standard error, if it can be written: what is done does not end for its telling.
pub(crate) fn tell(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints a value as JSON.
pub(crate) fn say_json(value: &impl Serialize) -> Result<()> {
    say(serde_json::to_string_pretty(value)?);
    Ok(())
}

/// A count with thousands separated: 1,234,567.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A time in UTC to the minute, of milliseconds since 1970; a clock that was far off shows as 1970 or 9999.
pub(crate) fn utc(ms: i64) -> String {
    let at = UNIX_EPOCH + Duration::from_millis(ms.clamp(0, YEAR_9999_MS) as u64);
    humantime::format_rfc3339_seconds(at).to_string().replace('T', " ").chars().take(16).collect()
}

/// A text of at most `width` columns, its end cut off where it is wider.
pub(crate) fn shorten(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut used = 1;
    let fits = |c: &char| {
        used += c.width().unwrap_or(0);
        used <= width
    };
    let kept: String = text.chars().take_while(fits).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_separated_by_thousands() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn times_are_shown_whatever_the_clock_was() {
        let shown = [i64::MIN, 1_795_753_320_000, i64::MAX].map(utc);
        assert_eq!(shown, ["1970-01-01 00:00", "2026-11-27 04:22", "9999-12-31 23:59"]);
    }

    #[test]
    fn errors_say_each_cause_once() {
        let error = anyhow::anyhow!("no such file").context("a.csv: no such file").context("--hard");
        assert_eq!(told(&error), "--hard: a.csv: no such file");
    }

    #[test]
    fn lists_are_folded_between_words_and_set_deeper() {
        let listed = folded(&format!("error: {}\n  training.epoch:{}", "wrong ".repeat(9), " a name,".repeat(20)));
        let lines: Vec<&str> = listed.lines().collect();
        assert!(lines[0].starts_with("error: ") && lines[1].starts_with("  training.epoch: a name,"), "{listed}");
        assert!(lines.len() == 4 && lines[2..].iter().all(|line| line.starts_with("    ")), "{listed}");
        assert!(lines.iter().all(|line| line.width() <= 80), "{listed}");
        assert!(lines[1..3].iter().all(|line| line.width() > 70), "no sooner than needed: {listed}");
        assert_eq!(fold(&"x".repeat(90)), "x".repeat(90));
    }

    #[test]
    fn what_stands_in_backticks_is_not_broken() {
        let command = format!("`pagoda {}`", "--flag value ".repeat(7));
        let said = fold(&format!("no services are running here; start them with {command}, then try again"));
        assert_eq!(said.lines().map(str::trim).collect::<Vec<_>>()[1], format!("{command},"), "{said}");
        assert_eq!(said.lines().count(), 3);
    }

    #[test]
    fn the_last_column_is_cut_off_and_the_others_are_whole() {
        for title in ["a title that goes on and on ".repeat(5), "影视作品推荐系统".repeat(10)] {
            let rows = vec![vec!["1".into(), "an-id-of-twenty-signs".into(), title]];
            let table = table_of_lines(&["rank", "item", "title"], &[0], rows).to_string();
            assert!(table.lines().all(|line| line.width() <= 80), "{table}");
            assert!(
                table.lines().count() == 5 && table.contains("…") && table.contains("an-id-of-twenty-signs"),
                "{table}"
            );
        }
    }

    #[test]
    fn long_texts_are_shortened_by_their_width() {
        assert_eq!(shorten("影视作品推荐系统", 7), "影视作…");
        assert_eq!(shorten("déjà vu", 7), "déjà vu");
        assert_eq!(shorten("déjà vu again", 7), "déjà v…");
    }
}
