//! Merging the sources, refusing what none of them should hold, and showing what came out.

use std::path::PathBuf;

use figment::{
    Figment, Metadata, Profile, Provider,
    providers::{Env, Format, Toml},
    value::{Dict, Map, Value},
};
use serde::Serialize;

use super::{Faults, ServiceConfig};
use crate::cli::ServerArgs;

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file of `--config` cannot be read.
    #[error("config file {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The sources are wrong; every fault names its key and, where known, the source.
    #[error("bad config:\n  {}", .0.join("\n  "))]
    Faults(Vec<String>),
}

/// Merges the service's defaults, the file, the environment (`PAGODA_SECTION__KEY`) and `--set`, and validates the result.
///
/// # Errors
/// All faults at once: keys that the defaults do not have, each with its source; else a value of a wrong type; else what `validate` notes.
pub fn load<C: ServiceConfig>(args: &ServerArgs) -> Result<C, ConfigError> {
    let defaults = Figment::from(Toml::string(C::DEFAULTS));
    let merged = merge(defaults.clone(), args)?;
    refuse_unknown(&defaults, &merged)?;
    let config: C =
        merged.extract().map_err(|errors| ConfigError::Faults(errors.into_iter().map(|e| e.to_string()).collect()))?;
    let mut faults = Faults::default();
    config.sections().validate(&mut faults);
    config.validate(&mut faults);
    fail_on(faults.into_vec()).map(|()| config)
}

/// The settings as TOML with secrets replaced, to be logged or printed.
pub fn redacted(config: &impl Serialize) -> String {
    let Ok(mut value) = toml::Value::try_from(config) else { return String::new() };
    redact("", &mut value);
    toml::to_string(&value).unwrap_or_default()
}

fn merge(mut figment: Figment, args: &ServerArgs) -> Result<Figment, ConfigError> {
    if let Some(path) = &args.config {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::File { path: path.clone(), source })?;
        figment = figment.merge(Named { provider: Toml::string(&text), name: format!("file {}", path.display()) });
    }
    // Only names with `__` are settings: Kubernetes injects PAGODA_SERVICE_HOST and its kin where a Service is called so.
    let env = Env::prefixed("PAGODA_").filter(|key| key.as_str().contains("__")).split("__");
    figment = figment.merge(env);
    for set in &args.set {
        figment = figment.merge(SetFlag::parse(set)?);
    }
    Ok(figment)
}

/// A provider under a name that a person recognises.
struct Named<P> {
    provider: P,
    name: String,
}

impl<P: Provider> Provider for Named<P> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        self.provider.data()
    }
}

/// One `--set key=value`.
struct SetFlag {
    key: String,
    value: Value,
}

impl SetFlag {
    fn parse(set: &str) -> Result<Self, ConfigError> {
        let wrong = || ConfigError::Faults(vec![format!("--set {set}: expected section.key=value")]);
        let (key, value) = set.split_once('=').ok_or_else(wrong)?;
        if key.is_empty() || key.split('.').any(str::is_empty) {
            return Err(wrong());
        }
        let value = value.parse::<Value>().unwrap_or_else(|never| match never {});
        Ok(Self { key: key.to_owned(), value })
    }
}

impl Provider for SetFlag {
    fn metadata(&self) -> Metadata {
        Metadata::named(format!("--set {}", self.key))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let nested = figment::util::nest(&self.key, self.value.clone());
        Ok(Profile::Default.collect(nested.into_dict().unwrap_or_default()))
    }
}

fn refuse_unknown(defaults: &Figment, merged: &Figment) -> Result<(), ConfigError> {
    let whole = |figment: &Figment| {
        figment
            .extract::<Value>()
            .map_err(|errors| ConfigError::Faults(errors.into_iter().map(|e| e.to_string()).collect()))
    };
    let (known, found) = (whole(defaults)?, whole(merged)?);
    let mut unknown = Vec::new();
    collect_unknown("", &known, &found, &mut unknown);
    fail_on(unknown.into_iter().map(|key| describe_unknown(merged, &key)).collect())
}

fn collect_unknown(path: &str, known: &Value, found: &Value, unknown: &mut Vec<String>) {
    let (Some(known), Some(found)) = (known.as_dict(), found.as_dict()) else { return };
    for (key, value) in found {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match known.get(key) {
            Some(expected) => collect_unknown(&path, expected, value, unknown),
            None => unknown.push(path),
        }
    }
}

fn describe_unknown(merged: &Figment, key: &str) -> String {
    let source = merged.find_metadata(key).map_or_else(|| "an unknown source".to_owned(), |m| m.name.to_string());
    format!("{key}: unknown key, found in {source}")
}

fn fail_on(faults: Vec<String>) -> Result<(), ConfigError> {
    if faults.is_empty() { Ok(()) } else { Err(ConfigError::Faults(faults)) }
}

fn redact(key: &str, value: &mut toml::Value) {
    match value {
        toml::Value::Table(table) => table.iter_mut().for_each(|(key, value)| redact(key, value)),
        toml::Value::String(text) if is_secret(key) && !text.is_empty() => *text = "REDACTED".into(),
        toml::Value::String(text) => redact_userinfo(text),
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

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::config::{Drain, Limits, Listen, Log, Sections, Store};

    #[derive(Serialize, Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    struct Config {
        listen: Listen,
        limits: Limits,
        drain: Drain,
        log: Log,
        store: Store,
    }

    impl ServiceConfig for Config {
        const DEFAULTS: &'static str = r#"
[listen]
address = "127.0.0.1:0"
metrics_address = ""
[limits]
concurrency = 4
message_bytes_max = 4096
deadline_ms_default = 100
deadline_ms_max = 1000
deadline_ms_long = 3600000
[drain]
grace_ms = 100
[log]
format = "text"
filter = "info"
[store]
url = "memory://"
"#;

        fn sections(&self) -> Sections<'_> {
            Sections { listen: &self.listen, limits: &self.limits, drain: &self.drain, log: &self.log }
        }

        fn validate(&self, faults: &mut Faults) {
            self.store.validate(faults);
        }
    }

    fn with(set: &[&str]) -> Result<Config, ConfigError> {
        load(&ServerArgs { set: set.iter().map(|&s| s.to_owned()).collect(), ..ServerArgs::default() })
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, "[limits]\nconcurrency = 8\ndeadline_ms_default = 200\n").unwrap();
        let args =
            ServerArgs { config: Some(path), set: vec!["limits.concurrency=16".into()], ..ServerArgs::default() };
        let config: Config = load(&args).unwrap();
        assert_eq!((config.limits.concurrency, config.limits.deadline_ms_default), (16, 200));
        assert_eq!(config.limits.deadline_ms_max, 1000);
    }

    #[test]
    fn unknown_keys_are_all_named_with_their_source() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.toml");
        std::fs::write(&path, "[limitz]\nconcurrency = 8\n").unwrap();
        let args = ServerArgs { config: Some(path), set: vec!["listen.adress=x".into()], ..ServerArgs::default() };
        let error = load::<Config>(&args).unwrap_err().to_string();
        assert!(error.contains("limitz: unknown key, found in file ") && error.contains("mine.toml"), "{error}");
        assert!(error.contains("listen.adress: unknown key, found in --set listen.adress"), "{error}");
    }

    #[test]
    fn every_bad_value_is_named_at_once() {
        let error =
            with(&["listen.address=nowhere", "limits.concurrency=0", "log.filter=a=b=c", "store.url="]).unwrap_err();
        let error = error.to_string();
        for key in ["listen.address", "limits.concurrency", "log.filter", "store.url"] {
            assert!(error.contains(key), "{key} is missing in {error}");
        }
    }

    #[test]
    fn a_wrong_type_names_the_key_and_the_source() {
        let error = with(&["limits.concurrency=many"]).unwrap_err().to_string();
        assert!(error.contains("limits.concurrency"), "{error}");
        assert!(with(&["limits.concurrency"]).is_err());
    }

    #[test]
    fn a_missing_file_is_named() {
        let args = ServerArgs { config: Some("/nonexistent/x.toml".into()), ..ServerArgs::default() };
        assert!(load::<Config>(&args).unwrap_err().to_string().contains("/nonexistent/x.toml"));
    }

    #[test]
    fn secrets_are_redacted() {
        let shown = redacted(&serde_json::json!({"store": {"url": "s3://key:hush@bucket/p", "api_token": "hush"}}));
        assert!(!shown.contains("hush") && shown.contains("s3://REDACTED@bucket/p"), "{shown}");
    }
}
