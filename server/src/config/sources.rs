//! Where settings come from: a file, the environment, `--set`; each with the place where it stands.

use std::{collections::BTreeMap, ffi::OsString, fmt, path::Path};

use toml::{
    Spanned, Table, Value,
    de::{DeTable, DeValue},
};

use super::{ConfigError, known};
use crate::cli::ServerArgs;

/// What the names of all our variables begin with.
const PREFIX: &str = "PAGODA_";
/// What stands between section and key.
const SEPARATOR: &str = "__";
/// Variables of ours that are no settings: of the command line, the tests and the benchmarks.
const OTHERS: [&str; 8] = ["ADDRESSES", "BENCH_", "CACHE", "SEED", "SIMULATION_", "SOAK_", "STEPS_", "TEST_"];

/// One setting of a source.
#[derive(Debug)]
pub(super) struct Setting {
    /// Its dotted key.
    pub(super) key: String,
    pub(super) value: Written,
    pub(super) place: Place,
}

/// A value as it stands there.
#[derive(Debug)]
pub(super) enum Written {
    /// TOML knows types.
    Typed(Value),
    /// The environment and the command line do not.
    Text(String),
}

/// Where a setting stands.
#[derive(Debug)]
pub(super) enum Place {
    /// In a file.
    File {
        /// Its name.
        path: String,
        /// Counted from 1.
        line: usize,
    },
    /// In a variable of the environment.
    Variable(String),
    /// On the command line: its key.
    Flag(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{path}, line {line}"),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(key) => write!(f, "--set {key}"),
        }
    }
}

/// All settings, what wins last. What cannot be one is noted as a fault.
pub(super) fn read(args: &ServerArgs, known: &Table, faults: &mut Vec<String>) -> Result<Vec<Setting>, ConfigError> {
    let mut settings = match &args.config {
        Some(path) => of_file(path, known)?,
        None => Vec::new(),
    };
    settings.extend(of_variables(std::env::vars_os(), faults));
    settings.extend(args.set.iter().filter_map(|flag| of_flag(flag, faults)));
    Ok(settings)
}

/// What a variable was meant to be that is called like ours and is no setting; none if it is one, or of others.
pub(super) fn stray(name: &str, known: &Table) -> Option<String> {
    let rest = name.strip_prefix(PREFIX).filter(|rest| !rest.contains(SEPARATOR))?;
    // Kubernetes gives a pod the addresses of every Service; one may be called pagoda.
    let of_kubernetes = rest.contains("SERVICE_HOST") || rest.contains("_PORT") || rest.starts_with("PORT");
    if of_kubernetes || OTHERS.iter().any(|other| rest.starts_with(other)) {
        return None;
    }
    let flat = |key: &str| key.replace('.', "_");
    let keys = known::leaves(known).into_iter().map(|(key, _)| key);
    let meant = keys.into_iter().find(|key| flat(key) == rest.to_lowercase());
    let hint = meant.map_or_else(String::new, |key| {
        format!(", did you mean {PREFIX}{}?", key.replace('.', SEPARATOR).to_uppercase())
    });
    Some(format!("{name} is ignored: settings are called {PREFIX}SECTION{SEPARATOR}KEY{hint}"))
}

fn of_file(path: &Path, known: &Table) -> Result<Vec<Setting>, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::File { path: path.to_owned(), source })?;
    let wrong = |e: toml::de::Error| ConfigError::Syntax { path: path.to_owned(), why: e.to_string().trim().into() };
    let table: Table = text.parse().map_err(wrong)?;
    let mut lines = BTreeMap::new();
    note_lines("", &DeTable::parse(&text).map_err(wrong)?.into_inner(), &text, &mut lines);
    let mut settings = Vec::new();
    flatten("", table, known, &mut |key, value| {
        let line = lines.get(&key).copied().unwrap_or(1);
        let place = Place::File { path: path.display().to_string(), line };
        settings.push(Setting { key, value: Written::Typed(value), place });
    });
    Ok(settings)
}

/// Sections that are known are entered; of others the whole is told.
fn flatten(path: &str, table: Table, known: &Table, found: &mut impl FnMut(String, Value)) {
    for (key, value) in table {
        let at = joined(path, &key);
        match (known.get(&key), value) {
            (Some(Value::Table(known)), Value::Table(inner)) => flatten(&at, inner, known, found),
            (_, value) => found(at, value),
        }
    }
}

fn note_lines(path: &str, table: &DeTable<'_>, text: &str, lines: &mut BTreeMap<String, usize>) {
    for (key, value) in table {
        let at = joined(path, key.get_ref());
        let before = text.get(..key.span().start).unwrap_or_default();
        lines.insert(at.clone(), before.matches('\n').count() + 1);
        if let DeValue::Table(inner) = Spanned::get_ref(value) {
            note_lines(&at, inner, text, lines);
        }
    }
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn of_variables(variables: impl Iterator<Item = (OsString, OsString)>, faults: &mut Vec<String>) -> Vec<Setting> {
    let mut settings = Vec::new();
    for (name, value) in variables {
        let Ok(name) = name.into_string() else { continue };
        let Some(rest) = name.strip_prefix(PREFIX).filter(|rest| rest.contains(SEPARATOR)) else { continue };
        let key = rest.to_lowercase().replace(SEPARATOR, ".");
        match value.into_string() {
            Ok(text) => settings.push(Setting { key, value: Written::Text(text), place: Place::Variable(name) }),
            Err(_) => faults.push(format!("{key}: expected UTF-8 (environment variable {name})")),
        }
    }
    settings
}

fn of_flag(flag: &str, faults: &mut Vec<String>) -> Option<Setting> {
    match flag.split_once('=') {
        Some((key, value)) if key.split('.').all(|part| !part.is_empty()) => {
            let place = Place::Flag(key.to_owned());
            Some(Setting { key: key.to_owned(), value: Written::Text(value.to_owned()), place })
        }
        _ => {
            faults.push(format!("--set {flag}: expected section.key=value"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Table {
        "[listen]\naddress = ''\n[limits]\ndeadline_ms_max = 1\n".parse().unwrap()
    }

    #[test]
    fn variables_with_a_section_are_settings() {
        let variables =
            [("PAGODA_LISTEN__ADDRESS", "x"), ("PAGODA_SERVICE_HOST", "10.0.0.1"), ("OTHER_LISTEN__ADDRESS", "y")];
        let mut faults = Vec::new();
        let found = of_variables(variables.into_iter().map(|(n, v)| (n.into(), v.into())), &mut faults);
        let found: Vec<_> = found.iter().map(|s| (s.key.as_str(), s.place.to_string())).collect();
        assert_eq!(found, [("listen.address", "environment variable PAGODA_LISTEN__ADDRESS".to_owned())]);
        assert!(faults.is_empty());
    }

    #[test]
    fn variables_without_a_section_are_told_unless_they_are_of_others() {
        let told = |name| stray(name, &known());
        assert!(
            told("PAGODA_FOO").unwrap().starts_with("PAGODA_FOO is ignored: settings are called PAGODA_SECTION__KEY")
        );
        let told_all = told("PAGODA_LIMITS_DEADLINE_MS_MAX").unwrap();
        assert!(told_all.ends_with("did you mean PAGODA_LIMITS__DEADLINE_MS_MAX?"), "{told_all}");
        for other in [
            "PAGODA_LISTEN__ADDRESS",
            "PAGODA_SERVICE_HOST",
            "PAGODA_PORT_7101_TCP_ADDR",
            "PAGODA_CACHE",
            "PAGODA_TEST_PYTHON",
            "PATH",
        ] {
            assert_eq!(told(other), None, "{other}");
        }
    }
}
