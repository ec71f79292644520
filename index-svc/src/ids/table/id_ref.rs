//! [`IdRef`]: an id of a table, as a number where it is the text of one.

use std::cmp::Ordering;

use crate::ids::ItemId;

/// The most digits of a `u64`.
const DIGITS_MAX: usize = 20;

/// An id of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdRef<'a> {
    /// A decimal number without leading zeros.
    Number(u64),
    /// Any other.
    Text(&'a str),
}

impl IdRef<'_> {
    /// Gives the id's text.
    pub fn with_text<T>(&self, use_text: impl FnOnce(&str) -> T) -> T {
        match self {
            Self::Text(text) => use_text(text),
            Self::Number(number) => {
                let mut buffer = [0; DIGITS_MAX];
                use_text(digits(*number, &mut buffer))
            }
        }
    }

    /// The id by itself.
    pub fn to_id(&self) -> ItemId {
        self.with_text(|text| ItemId(text.into()))
    }
}

impl From<IdRef<'_>> for String {
    fn from(id: IdRef<'_>) -> Self {
        id.with_text(str::to_owned)
    }
}

impl Ord for IdRef<'_> {
    /// By text.
    fn cmp(&self, other: &Self) -> Ordering {
        self.with_text(|a| other.with_text(|b| a.cmp(b)))
    }
}

impl PartialOrd for IdRef<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The number that an id is the decimal text of, without sign and leading zeros.
pub(super) fn canonical(id: &str) -> Option<u64> {
    let digits = id.bytes().all(|b| b.is_ascii_digit()) && (id.len() == 1 || !id.starts_with('0'));
    if digits { id.parse().ok() } else { None }
}

fn digits(mut number: u64, buffer: &mut [u8; DIGITS_MAX]) -> &str {
    let mut first = DIGITS_MAX;
    loop {
        first -= 1;
        buffer[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    std::str::from_utf8(&buffer[first..]).expect("digits are ASCII")
}
