//! A setting's value, read by the type of its default, and what is said of one that is of another type.

use toml::{Table, Value};

use super::sources::Written;

/// The value, of the default's type.
pub(super) fn typed(key: &str, default: &Value, written: &Written) -> Result<Value, String> {
    let (value, found) = match written {
        Written::Typed(value) => (Some(value.clone()), value.to_string()),
        Written::Text(text) => (read(default, text.trim()), text.clone()),
    };
    match (default, value) {
        (Value::Table(_), _) => Err(format!("is a section, set its keys: section.key=value, found `{found}`")),
        (Value::Float(_), Some(Value::Integer(n))) => Ok(Value::Float(n as f64)),
        (default, Some(value)) if default.same_type(&value) => Ok(value),
        (default, _) => Err(format!("expected {}, found `{found}`", expected(key, default))),
    }
}

/// A text of the environment or the command line. A text needs no quotes, nor do those of a list.
fn read(default: &Value, text: &str) -> Option<Value> {
    match (default, toml_value(text)) {
        (Value::String(_), Some(Value::String(quoted))) => Some(Value::String(quoted)),
        (Value::String(_), _) => Some(Value::String(text.into())),
        (Value::Array(_), Some(list @ Value::Array(_))) => Some(list),
        (Value::Array(_), _) => Some(list(text)),
        (_, value) => value,
    }
}

/// `a, b` or `[a, b]`.
fn list(text: &str) -> Value {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let words = inner.split(',').map(str::trim).filter(|word| !word.is_empty());
    Value::Array(words.map(|word| toml_value(word).unwrap_or_else(|| Value::String(word.into()))).collect())
}

fn toml_value(text: &str) -> Option<Value> {
    // A line break would let a text bring keys of its own.
    let line = Some(text).filter(|text| !text.contains(['\n', '\r']))?;
    format!("value = {line}").parse::<Table>().ok()?.remove("value")
}

fn expected(key: &str, default: &Value) -> String {
    let kind = match default {
        Value::Integer(_) if key.contains("_ms") => "a whole number of milliseconds",
        Value::Integer(_) if key.contains("bytes") => "a whole number of bytes",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => return "true or false".into(),
        Value::Array(_) => "a list",
        _ => "a text",
    };
    match default {
        Value::String(text) if text.is_empty() => kind.into(),
        Value::Array(list) if list.is_empty() => kind.into(),
        default => format!("{kind} such as {default}"),
    }
}

/// What serde says of a value, for people: of whole numbers it knows Rust's types.
pub(super) fn in_words(message: &str) -> String {
    let Some((found, expected)) = message.split_once(", expected ") else { return message.trim().into() };
    let numbers = [
        ("u8", "a whole number up to 255"),
        ("u16", "a whole number up to 65535"),
        ("u32", "a whole number up to 4294967295"),
        ("u64", "a whole number, 0 or more"),
        ("usize", "a whole number, 0 or more"),
        ("a string", "a text"),
        ("string or table", "a text"),
    ];
    let expected = expected.trim();
    let words = numbers.iter().find(|(rust, _)| *rust == expected).map_or(expected, |(_, words)| words);
    let prefixes =
        ["unknown variant ", "invalid value: ", "invalid type: ", "integer ", "string ", "floating point ", "boolean "];
    let found = prefixes.iter().fold(found.trim(), |found, prefix| found.strip_prefix(prefix).unwrap_or(found));
    format!("expected {words}, found `{}`", found.trim_matches(['`', '"']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(default: &str, text: &str) -> Result<String, String> {
        let default = toml_value(default).unwrap();
        typed("some.key_ms", &default, &Written::Text(text.into())).map(|value| value.to_string())
    }

    #[test]
    fn texts_are_read_by_the_type_of_the_default() {
        for (default, given, value) in [
            ("''", "42", "\"42\""),
            ("''", "\"quoted\"", "\"quoted\""),
            ("''", "a=b, c", "\"a=b, c\""),
            ("1", "1_000", "1000"),
            ("0.5", "1", "1.0"),
            ("true", "false", "false"),
            ("['search']", "search, write", "[\"search\", \"write\"]"),
            ("['search']", "[search]", "[\"search\"]"),
            ("[]", "[7, 8]", "[7, 8]"),
            ("[]", "", "[]"),
        ] {
            assert_eq!(text(default, given).as_deref(), Ok(value), "{given}");
        }
    }

    #[test]
    fn other_types_are_refused_in_a_persons_words() {
        for (default, given, said) in [
            ("10", "5s", "expected a whole number of milliseconds such as 10, found `5s`"),
            ("10", "1.5", "expected a whole number of milliseconds such as 10, found `1.5`"),
            ("0.5", "half", "expected a number such as 0.5, found `half`"),
            ("true", "yes", "expected true or false, found `yes`"),
            ("true", "true\nother = 1", "expected true or false, found `true\nother = 1`"),
        ] {
            assert_eq!(text(default, given), Err(said.into()));
        }
    }

    #[test]
    fn what_serde_says_is_put_in_words() {
        for (serde, words) in [
            ("invalid value: integer `300`, expected u8", "expected a whole number up to 255, found `300`"),
            ("invalid type: string \"x\", expected u64\n", "expected a whole number, 0 or more, found `x`"),
            ("unknown variant `xml`, expected `text` or `json`", "expected `text` or `json`, found `xml`"),
            ("something else", "something else"),
        ] {
            assert_eq!(in_words(serde), words);
        }
    }
}
