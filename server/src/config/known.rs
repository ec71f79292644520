//! The keys that there are: found, put, and the nearest one to a key that there is not.

use toml::{Table, Value};

/// From this similarity (Jaro's, 0 to 1) on a key is taken for a slip of another.
const SLIP: f64 = 0.85;

/// What is at a key of dotted parts.
pub(super) fn get<'t>(table: &'t Table, key: &str) -> Option<&'t Value> {
    let mut parts = key.split('.');
    let first = table.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.as_table()?.get(part))
}

/// Puts a value at a key that is there; elsewhere nothing happens.
pub(super) fn put(table: &mut Table, key: &str, value: Value) {
    let (section, rest) = key.split_once('.').unwrap_or((key, ""));
    match table.get_mut(section) {
        Some(Value::Table(inner)) if !rest.is_empty() => put(inner, rest, value),
        Some(slot) if rest.is_empty() => *slot = value,
        _ => {}
    }
}

/// Every key that holds a value, and the value.
pub(super) fn leaves(table: &Table) -> Vec<(String, &Value)> {
    let mut leaves = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) => {
                leaves.extend(self::leaves(inner).into_iter().map(|(rest, value)| (format!("{key}.{rest}"), value)));
            }
            value => leaves.push((key.clone(), value)),
        }
    }
    leaves
}

/// Says of a key that there is no such, and which one was meant, or which there are.
pub(super) fn unknown(known: &Table, key: &str) -> String {
    let Some((section, _)) = key.split_once('.') else {
        let sections = || known.keys().map(String::as_str);
        let hint = nearest(key, sections()).map_or_else(|| there_are(sections()), did_you_mean);
        return format!("unknown section, {hint}");
    };
    let hint = match (meant(known, key), known.get(section)) {
        (Some(meant), _) => did_you_mean(&meant),
        (None, Some(Value::Table(inner))) => format!("[{section}] has {}", listed(inner.keys().map(String::as_str))),
        (None, _) => there_are(known.keys().map(String::as_str)),
    };
    format!("unknown key, {hint}")
}

/// The key that a slip was meant to be, or else the only one of that name, in another section.
fn meant(known: &Table, key: &str) -> Option<String> {
    let keys: Vec<String> = leaves(known).into_iter().map(|(key, _)| key).collect();
    if let Some(near) = nearest(key, keys.iter().map(String::as_str)) {
        return Some(near.to_owned());
    }
    let name = |key: &str| key.rsplit('.').next().map(str::to_owned);
    let mut namesakes = keys.iter().filter(|known| name(known) == name(key));
    namesakes.next().filter(|_| namesakes.next().is_none()).cloned()
}

fn nearest<'k>(key: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let scored = known.map(|known| (strsim::jaro(key, known), known)).filter(|(score, _)| *score >= SLIP);
    scored.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}

fn did_you_mean(key: &str) -> String {
    format!("did you mean `{key}`?")
}

fn there_are<'k>(sections: impl Iterator<Item = &'k str>) -> String {
    format!("the sections are {}", listed(sections))
}

fn listed<'k>(names: impl Iterator<Item = &'k str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_told_from_keys_that_there_never_were() {
        let known: Table = "[memory]\nbytes_max = 0\nshare = 0.8\n[listen]\naddress = ''\n".parse().unwrap();
        for (key, said) in [
            ("listen.adress", "unknown key, did you mean `listen.address`?"),
            ("limits.address", "unknown key, did you mean `listen.address`?"),
            ("memory.limit", "unknown key, [memory] has bytes_max, share"),
            ("qqq.zzz", "unknown key, the sections are listen, memory"),
            ("memry", "unknown section, did you mean `memory`?"),
            ("qqq", "unknown section, the sections are listen, memory"),
        ] {
            assert_eq!(unknown(&known, key), said);
        }
    }
}
