//! Laying the sources over the defaults, refusing what none of them should hold, and showing what came out.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Serialize;
use toml::{Table, Value};

use super::{
    Faults, ServiceConfig, known, redact,
    sources::{self, Place, Setting},
    values,
};
use crate::cli::ServerArgs;

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file of `--config` cannot be read.
    #[error("--config {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file of `--config` is no TOML.
    #[error("--config {path}: {why}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where, and what was expected there.
        why: String,
    },
    /// The sources are wrong; every fault names its key and where it stands.
    #[error("bad settings:\n  {}", .0.join("\n  "))]
    Faults(Vec<String>),
}

/// Lays the file, the environment (`PAGODA_SECTION__KEY`) and `--set` over the service's defaults, and validates the result.
///
/// # Errors
/// All faults at once, each with its key and the place of its value: keys that the defaults do not have, values of a wrong type, and what
/// `validate` notes of the rest.
pub fn load<C: ServiceConfig>(args: &ServerArgs) -> Result<C, ConfigError> {
    let defaults = defaults::<C>();
    let mut faults = Vec::new();
    let mut merged = defaults.clone();
    let mut places = BTreeMap::new();
    for setting in sources::read(args, &defaults, &mut faults)? {
        match taken::<C>(&defaults, &setting) {
            Ok(value) => {
                known::put(&mut merged, &setting.key, value);
                places.insert(setting.key, setting.place);
            }
            Err(why) => faults.push(format!("{}: {why} ({})", setting.key, setting.place)),
        }
    }
    let config: C = merged.try_into().map_err(|e| ConfigError::Faults(vec![e.to_string()]))?;
    let mut noted = Faults::default();
    config.sections().validate(&mut noted);
    config.validate(&mut noted);
    faults.extend(noted.into_vec().into_iter().map(|fault| with_place(fault, &places)));
    if faults.is_empty() { Ok(config) } else { Err(ConfigError::Faults(faults)) }
}

/// The settings as TOML with secrets replaced, to be printed.
pub fn redacted(config: &impl Serialize) -> String {
    toml::to_string(&redact::table(config)).unwrap_or_default()
}

/// The settings that are not the defaults, as `section.key = value`, with secrets replaced.
pub fn changed<C: ServiceConfig>(config: &C) -> Vec<String> {
    let defaults = defaults::<C>();
    let found = redact::table(config);
    let leaves = known::leaves(&found).into_iter();
    let differs = |(key, value): &(String, &Value)| known::get(&defaults, key) != Some(*value);
    leaves.filter(differs).map(|(key, value)| format!("{key} = {value}")).collect()
}

/// Variables of the environment that look like settings and are none: what they were meant to be, for a person who wonders.
pub fn stray_variables<C: ServiceConfig>() -> Vec<String> {
    let defaults = defaults::<C>();
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    names.filter_map(|name| sources::stray(&name, &defaults)).collect()
}

fn defaults<C: ServiceConfig>() -> Table {
    C::DEFAULTS.parse().expect("the embedded defaults are TOML, which a test of each service proves")
}

/// The value of one setting, if its key is known and it alone can be laid over the defaults.
fn taken<C: ServiceConfig>(defaults: &Table, setting: &Setting) -> Result<Value, String> {
    let Some(default) = known::get(defaults, &setting.key) else {
        return Err(known::unknown(defaults, &setting.key));
    };
    let value = values::typed(&setting.key, default, &setting.value)?;
    let mut alone = defaults.clone();
    known::put(&mut alone, &setting.key, value.clone());
    alone.try_into::<C>().map_err(|e| values::in_words(e.message())).map(|_| value)
}

/// A fault that `validate` noted, with the place where the value stands; a default stands nowhere.
fn with_place(fault: String, places: &BTreeMap<String, Place>) -> String {
    match fault.split_once(": ").and_then(|(key, _)| places.get(key)) {
        Some(place) => format!("{fault} ({place})"),
        None => fault,
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
        few: Few,
    }

    #[derive(Serialize, Deserialize, Debug)]
    struct Few {
        shards: Vec<u32>,
        share: f64,
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
name = ""
[store]
url = "memory://"
[few]
shards = []
share = 0.5
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

    /// Each fault of these flags by itself.
    fn faults(set: &[&str]) -> Vec<String> {
        match with(set).unwrap_err() {
            ConfigError::Faults(faults) => faults,
            other => panic!("{other}"),
        }
    }

    fn file(dir: &tempfile::TempDir, text: &str) -> ServerArgs {
        let path = dir.path().join("mine.toml");
        std::fs::write(&path, text).unwrap();
        ServerArgs { config: Some(path), ..ServerArgs::default() }
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let mut args = file(&dir, "[limits]\nconcurrency = 8\ndeadline_ms_default = 200\n");
        args.set = vec!["limits.concurrency=16".into(), "few.shards=1, 2".into(), "few.share=1".into()];
        let config: Config = load(&args).unwrap();
        assert_eq!((config.limits.concurrency, config.limits.deadline_ms_default), (16, 200));
        assert_eq!(config.limits.deadline_ms_max, 1000);
        assert_eq!((config.few.shards, config.few.share), (vec![1, 2], 1.0));
    }

    #[test]
    fn every_fault_is_named_at_once_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let mut args = file(&dir, "[limitz]\nconcurrency = 8\n\n[drain]\ngrace_ms = \"5s\"\n[log]\nformat = \"xml\"\n");
        args.set = vec!["listen.adress=x".into(), "limits.concurrency=0".into(), "few.shards=[1, -2]".into()];
        let error = load::<Config>(&args).unwrap_err().to_string();
        let mine = args.config.unwrap().display().to_string();
        for expected in [
            format!("limitz: unknown section, did you mean `limits`? ({mine}, line 1)"),
            format!(
                "drain.grace_ms: expected a whole number of milliseconds such as 100, found `\"5s\"` ({mine}, line 5)"
            ),
            format!("log.format: expected `text` or `json`, found `xml` ({mine}, line 7)"),
            "listen.adress: unknown key, did you mean `listen.address`? (--set listen.adress)".into(),
            "limits.concurrency: expected 1 to 100000, found 0 (--set limits.concurrency)".into(),
            "few.shards: expected a whole number up to 4294967295, found `-2` (--set few.shards)".into(),
        ] {
            assert!(error.lines().any(|line| line.trim() == expected), "{expected}\nis missing in\n{error}");
        }
        assert_eq!(error.lines().count(), 7, "{error}");
    }

    #[test]
    fn every_bad_value_is_named_at_once() {
        let found = faults(&["listen.address=nowhere", "limits.concurrency=0", "log.filter=a=b=c", "store.url="]);
        for key in ["listen.address", "limits.concurrency", "log.filter", "store.url"] {
            assert!(found.iter().any(|fault| fault.starts_with(key)), "{key} is missing in {found:#?}");
        }
    }

    #[test]
    fn flags_that_are_none_say_how_they_are_written() {
        for bad in ["limits.concurrency", "=1", "limits..concurrency=1", "limits=1"] {
            let found = faults(&[bad]).concat();
            assert!(found.contains("section") && found.contains("limits") | found.contains("--set"), "{bad}: {found}");
        }
    }

    #[test]
    fn a_missing_file_and_one_that_is_no_toml_are_named() {
        let args = ServerArgs { config: Some("/nonexistent/x.toml".into()), ..ServerArgs::default() };
        assert!(load::<Config>(&args).unwrap_err().to_string().contains("/nonexistent/x.toml"));
        let error = load::<Config>(&file(&tempfile::tempdir().unwrap(), "[limits\n")).unwrap_err().to_string();
        assert!(error.contains("mine.toml") && error.contains("line 1"), "{error}");
    }

    #[test]
    fn secrets_are_redacted() {
        let shown = redacted(&serde_json::json!({"store": {"url": "s3://key:hush@bucket/p", "api_token": "hush"}}));
        assert!(!shown.contains("hush") && shown.contains("s3://REDACTED@bucket/p"), "{shown}");
    }

    #[test]
    fn what_differs_from_the_defaults_is_one_line() {
        assert!(changed(&with(&[]).unwrap()).is_empty());
        let config = with(&["limits.concurrency=16", "store.url=s3://key:hush@bucket/p"]).unwrap();
        assert_eq!(changed(&config), ["limits.concurrency = 16", "store.url = \"s3://REDACTED@bucket/p\""]);
    }
}
