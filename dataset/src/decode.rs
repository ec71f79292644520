//! From a table's cells to values: pure functions, one for each kind of value. An absent or empty cell is None.

use std::borrow::Cow;

use crate::bad_rows::shown;

/// A cell as its file gives it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell<'a> {
    /// No value.
    Absent,
    /// CSV: a text whose type the column decides.
    Raw(&'a str),
    /// A text.
    Text(&'a str),
    /// A whole number, or a time in seconds.
    Integer(i64),
    /// A whole number beyond the reach of [`Cell::Integer`], such as a hash that serves as an id.
    Unsigned(u64),
    /// Any other number.
    Number(f64),
    /// A list of texts.
    Texts(Vec<String>),
    /// A list of numbers.
    Numbers(Vec<f64>),
    /// Something that is no value at all, such as invalid UTF-8; described.
    Invalid(String),
}

/// What a column should hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A text or a whole number.
    Id,
    /// A text or a whole number.
    Text,
    /// Texts or whole numbers.
    Texts,
    /// A number.
    Number,
    /// Numbers.
    Numbers,
    /// Seconds since the Unix epoch.
    Time,
}

impl Wanted {
    /// As it is said in messages.
    pub(crate) const fn described(self) -> &'static str {
        match self {
            Self::Id => "an id (a text or a whole number)",
            Self::Text => "a text",
            Self::Texts => "a list of texts",
            Self::Number => "a number",
            Self::Numbers => "a list of numbers",
            Self::Time => "a time in seconds since 1970",
        }
    }
}

impl Cell<'_> {
    fn described(&self) -> String {
        match self {
            Self::Absent => "nothing".to_owned(),
            Self::Raw(text) | Self::Text(text) => shown(text),
            Self::Integer(n) => format!("`{n}`"),
            Self::Unsigned(n) => format!("`{n}`"),
            Self::Number(x) => format!("`{x}`"),
            Self::Texts(_) => "a list of texts".to_owned(),
            Self::Numbers(_) => "a list of numbers".to_owned(),
            Self::Invalid(description) => description.clone(),
        }
    }

    fn is_not(&self, wanted: Wanted) -> String {
        format!("expected {}, found {}", wanted.described(), self.described())
    }
}

/// An id, a category or a text; whole numbers become decimal digits.
pub(crate) fn text<'a>(cell: &Cell<'a>) -> Result<Option<Cow<'a, str>>, String> {
    match *cell {
        Cell::Absent | Cell::Raw("") | Cell::Text("") => Ok(None),
        Cell::Raw(text) | Cell::Text(text) => Ok(Some(Cow::Borrowed(text))),
        Cell::Integer(n) => Ok(Some(Cow::Owned(n.to_string()))),
        Cell::Unsigned(n) => Ok(Some(Cow::Owned(n.to_string()))),
        _ => Err(cell.is_not(Wanted::Text)),
    }
}

/// A finite number.
pub(crate) fn number(cell: &Cell<'_>) -> Result<Option<f64>, String> {
    let number = match *cell {
        Cell::Absent | Cell::Raw("") => return Ok(None),
        Cell::Raw(text) => text.trim().parse().map_err(|_| cell.is_not(Wanted::Number))?,
        Cell::Integer(n) => n as f64,
        Cell::Unsigned(n) => n as f64,
        Cell::Number(x) => x,
        _ => return Err(cell.is_not(Wanted::Number)),
    };
    if number.is_finite() { Ok(Some(number)) } else { Err(format!("expected a finite number, found `{number}`")) }
}

/// A list of texts: `|`-separated in CSV.
pub(crate) fn texts(cell: Cell<'_>) -> Result<Option<Vec<String>>, String> {
    match cell {
        Cell::Absent | Cell::Raw("") => Ok(None),
        Cell::Raw(text) => Ok(Some(text.split('|').filter(|t| !t.is_empty()).map(str::to_owned).collect())),
        Cell::Texts(texts) => Ok(Some(texts)),
        other => Err(other.is_not(Wanted::Texts)),
    }
}

/// A vector of finite numbers: separated by `|` or spaces in CSV.
pub(crate) fn floats(cell: &Cell<'_>, dim: usize) -> Result<Option<Vec<f32>>, String> {
    let floats: Vec<f32> = match cell {
        Cell::Absent | Cell::Raw("") => return Ok(None),
        Cell::Raw(text) => parse_floats(text).ok_or_else(|| cell.is_not(Wanted::Numbers))?,
        Cell::Numbers(numbers) => numbers.iter().map(|&x| x as f32).collect(),
        other => return Err(other.is_not(Wanted::Numbers)),
    };
    if floats.len() != dim {
        return Err(format!("expected {dim} numbers, found {}", floats.len()));
    }
    match floats.iter().find(|x| !x.is_finite()) {
        Some(x) => Err(format!("expected finite numbers, found `{x}`")),
        None => Ok(Some(floats)),
    }
}

fn parse_floats(text: &str) -> Option<Vec<f32>> {
    text.split(['|', ' ']).filter(|t| !t.is_empty()).map(|t| t.parse().ok()).collect()
}

/// A time in seconds, from 0 to `latest`.
pub(crate) fn timestamp(cell: &Cell<'_>, latest: i64) -> Result<i64, String> {
    let seconds = match cell {
        Cell::Integer(seconds) => *seconds,
        Cell::Raw(text) if text.trim().parse::<i64>().is_ok() => text.trim().parse().unwrap_or_default(),
        other => number(other).ok().flatten().map(|x| x as i64).ok_or_else(|| other.is_not(Wanted::Time))?,
    };
    match seconds {
        ..0 => Err(format!("{}, before 1970", Cell::Integer(seconds).is_not(Wanted::Time))),
        _ if seconds > latest => {
            Err(format!("{}, which lies in the future (milliseconds?)", Cell::Integer(seconds).is_not(Wanted::Time)))
        }
        _ => Ok(seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_every_format() {
        assert_eq!(text(&Cell::Integer(-7)).unwrap().unwrap(), "-7");
        assert_eq!(text(&Cell::Unsigned(u64::MAX)).unwrap().unwrap(), "18446744073709551615");
        assert_eq!(text(&Cell::Raw("")), Ok(None));
        assert!(text(&Cell::Number(1.5)).unwrap_err().contains("found `1.5`"));
        assert_eq!(texts(Cell::Raw("a||b c")).unwrap().unwrap(), ["a", "b c"]);
        assert!(texts(Cell::Text("a|b")).is_err());
    }

    #[test]
    fn numbers_are_finite() {
        assert_eq!(number(&Cell::Raw(" 1e3 ")), Ok(Some(1000.0)));
        for bad in ["NaN", "inf", "1e999", "abc", "1,5"] {
            assert!(number(&Cell::Raw(bad)).is_err(), "{bad}");
        }
        assert_eq!(floats(&Cell::Raw("1 2|3"), 3), Ok(Some(vec![1.0, 2.0, 3.0])));
        assert!(floats(&Cell::Numbers(vec![1.0]), 2).unwrap_err().contains("expected 2 numbers, found 1"));
        assert!(floats(&Cell::Numbers(vec![1e39]), 1).is_err());
    }

    #[test]
    fn timestamps_are_believable() {
        assert_eq!(timestamp(&Cell::Raw("964982703.0"), 2_000_000_000), Ok(964_982_703));
        assert_eq!(timestamp(&Cell::Integer(0), 10), Ok(0));
        for bad in [
            Cell::Integer(-1),
            Cell::Integer(11),
            Cell::Number(f64::NAN),
            Cell::Unsigned(u64::MAX),
            Cell::Raw("soon"),
            Cell::Absent,
            Cell::Raw("1e300"),
        ] {
            assert!(timestamp(&bad, 10).is_err(), "{bad:?}");
        }
    }
}
