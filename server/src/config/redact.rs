//! Settings without their secrets.

use serde::Serialize;
use toml::{Table, Value};

/// The settings as a table; what cannot be shown as one is empty.
pub(super) fn table(config: &impl Serialize) -> Table {
    let mut table = Table::try_from(config).unwrap_or_default();
    table.iter_mut().for_each(|(key, value)| redact(key, value));
    table
}

fn redact(key: &str, value: &mut Value) {
    match value {
        Value::Table(table) => table.iter_mut().for_each(|(key, value)| redact(key, value)),
        Value::String(text) if is_secret(key) && !text.is_empty() => *text = "REDACTED".into(),
        Value::String(text) => redact_userinfo(text),
        _ => {}
    }
}

fn is_secret(key: &str) -> bool {
    ["secret", "password", "token", "credential"].iter().any(|word| key.contains(word))
}

/// `scheme://user:password@host` loses what stands before the `@`.
fn redact_userinfo(text: &mut String) {
    let Some((scheme, rest)) = text.split_once("://") else { return };
    let authority_end = rest.find('/').unwrap_or(rest.len());
    if let Some(at) = rest[..authority_end].rfind('@') {
        *text = format!("{scheme}://REDACTED{}", &rest[at..]);
    }
}
