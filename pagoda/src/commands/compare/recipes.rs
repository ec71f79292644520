//! Recipes: a TOML file of named overlays over the training settings, and of the hard negatives that are mined first for each.

use std::{borrow::Cow, collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, bail};
use pagoda_trainer::{InvalidConfig, TrainConfig, mining::Window};
use serde::Deserialize;
use toml::{Table, Value};

/// The recipes that come with the program, by name.
const BUILT_IN: [(&str, &str); 2] = [
    ("negatives", include_str!("../../../recipes/negatives.toml")),
    ("towers", include_str!("../../../recipes/towers.toml")),
];
/// What all recipes share, or their figures could not be compared.
const SHARED: [&str; 4] = ["seed", "split", "evaluation", "checkpoint"];
const NAME_CHARS_MAX: usize = 40;
/// Stands for the file that is mined, until there is one.
const TO_BE_MINED: &str = "[negatives]\nhard_file = \"to be mined\"";

/// One recipe, checked.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    pub(super) name: String,
    pub(super) description: String,
    /// What it states, as TOML.
    pub(super) overlay: String,
    /// The whole configuration but for the seed and the mined file.
    pub(super) config: TrainConfig,
    /// What is mined first.
    pub(super) mine: Option<Mine>,
}

/// Hard negatives to mine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mine {
    pub(super) source: MineSource,
    pub(super) window: Window,
}

/// Who ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MineSource {
    /// The model of the shared settings, of the same seed.
    Model,
    /// The true preferences of generated data.
    Truth,
}

/// `[[recipe]]` as it is written.
#[derive(Deserialize)]
struct Written {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    config: Table,
    mine: Option<WrittenMine>,
}

#[derive(Deserialize)]
struct WrittenMine {
    source: WrittenSource,
    top: Option<usize>,
    from_rank: Option<usize>,
    to_rank: Option<usize>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenSource {
    Model,
    Truth,
    /// Nothing is mined.
    None,
}

/// The text of a recipe file, or of built-in recipes by their name.
pub(super) fn text(name: &str) -> Result<Cow<'static, str>> {
    if let Some((_, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
        return Ok(Cow::Borrowed(text));
    }
    let names = BUILT_IN.map(|(name, _)| name).join(", ");
    let text = fs::read_to_string(Path::new(name))
        .with_context(|| format!("cannot read recipes from {name}; those built in are {names}"))?;
    Ok(Cow::Owned(text))
}

/// Reads recipes that are laid over `base`, the layers of the shared settings, which are valid. Reports every fault at once.
pub(super) fn read(text: &str, base: &[&str]) -> Result<Vec<Recipe>, InvalidRecipes> {
    let mut table: Table = text.parse().map_err(|e| InvalidRecipes(vec![said(&e)]))?;
    let mut faults = Vec::new();
    refuse_unknown(&mut table, &["recipe"], "the file", &mut faults);
    let entries = match table.remove("recipe") {
        Some(Value::Array(entries)) => entries,
        _ => Vec::new(),
    };
    if entries.is_empty() {
        faults.push("expected at least one [[recipe]], found none".into());
    }
    let mut recipes: Vec<Recipe> = Vec::new();
    for (entry, place) in entries.into_iter().zip(1..) {
        if let Some(recipe) = read_one(entry, place, base, &mut faults) {
            if recipes.iter().any(|other| other.name == recipe.name) {
                faults.push(format!("recipe {place}: expected a name of its own, found `{}` again", recipe.name));
            }
            recipes.push(recipe);
        }
    }
    if faults.is_empty() { Ok(recipes) } else { Err(InvalidRecipes(faults)) }
}

/// The recipes of these names, in the order of the file; all of them where no name is given.
pub(super) fn only(recipes: Vec<Recipe>, names: &[String]) -> Result<Vec<Recipe>> {
    if names.is_empty() {
        return Ok(recipes);
    }
    let known: BTreeSet<&str> = recipes.iter().map(|recipe| recipe.name.as_str()).collect();
    let unknown: Vec<&str> = names.iter().map(String::as_str).filter(|name| !known.contains(name)).collect();
    if !unknown.is_empty() {
        let known: Vec<&str> = recipes.iter().map(|recipe| recipe.name.as_str()).collect();
        bail!("--only: there is no recipe {}; there are {}", unknown.join(", "), known.join(", "));
    }
    Ok(recipes.into_iter().filter(|recipe| names.contains(&recipe.name)).collect())
}

/// Two configurations that train the same model are equal: a share of hard negatives that there are none of is no share.
pub(super) fn normal(mut config: TrainConfig) -> TrainConfig {
    if config.negatives.hard_file.is_empty() {
        config.negatives.hard = 0.0;
    }
    config
}

/// Every fault of a recipe file, each naming its recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InvalidRecipes(pub(super) Vec<String>);

impl std::fmt::Display for InvalidRecipes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "bad recipes:\n  {}", self.0.join("\n").replace('\n', "\n  "))
    }
}

impl std::error::Error for InvalidRecipes {}

fn read_one(entry: Value, place: usize, base: &[&str], faults: &mut Vec<String>) -> Option<Recipe> {
    let Value::Table(mut entry) = entry else {
        faults.push(format!("recipe {place}: expected a table, found {}", entry.type_str()));
        return None;
    };
    let name = entry.get("name").and_then(Value::as_str).map(|name| format!("recipe {place} `{name}`"));
    let at = name.unwrap_or_else(|| format!("recipe {place}"));
    refuse_unknown(&mut entry, &["name", "description", "config", "mine"], &at, faults);
    if let Some(Value::Table(mine)) = entry.get_mut("mine") {
        refuse_unknown(mine, &["source", "top", "from_rank", "to_rank"], &format!("{at}: mine"), faults);
    }
    let written: Written = match entry.try_into() {
        Ok(written) => written,
        Err(error) => {
            faults.push(format!("{at}: {}", said(&error)));
            return None;
        }
    };
    let before = faults.len();
    faults.extend(written.faults().into_iter().map(|fault| format!("{at}: {fault}")));
    let mine = written.mine();
    let overlay = toml::to_string(&written.config).unwrap_or_default();
    let to_be_mined = mine.map(|_| TO_BE_MINED);
    let layers: Vec<&str> = base.iter().copied().chain([overlay.as_str()]).chain(to_be_mined).collect();
    match TrainConfig::layered(&layers) {
        Ok(config) => {
            faults.extend(mine_faults(mine, &config).map(|fault| format!("{at}: {fault}")));
            let Written { name, description, .. } = written;
            (faults.len() == before).then(|| Recipe { name, description, overlay, config: normal(config), mine })
        }
        Err(InvalidConfig(of_config)) => {
            faults.extend(of_config.into_iter().map(|fault| format!("{at}: config: {fault}")));
            None
        }
    }
}

impl Written {
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let chars = self.name.chars().count();
        if !(1..=NAME_CHARS_MAX).contains(&chars) || self.name.contains(|c: char| c == ',' || c.is_control()) {
            faults.push(format!(
                "name: expected 1 to {NAME_CHARS_MAX} characters without commas, found `{}`",
                self.name.escape_debug()
            ));
        }
        for key in SHARED.iter().filter(|key| self.config.contains_key(**key)) {
            faults.push(format!("config.{key}: is the same for all recipes, or their figures could not be compared"));
        }
        let mined_and_named = self.mine().is_some()
            && self.config.get("negatives").and_then(|negatives| negatives.get("hard_file")).is_some();
        if mined_and_named {
            faults.push("config.negatives.hard_file: is what is mined, where there is [recipe.mine]".into());
        }
        faults
    }

    fn mine(&self) -> Option<Mine> {
        let mine = self.mine.as_ref()?;
        let source = match mine.source {
            WrittenSource::Model => MineSource::Model,
            WrittenSource::Truth => MineSource::Truth,
            WrittenSource::None => return None,
        };
        let usual = Window::default();
        let window = Window {
            top: mine.top.unwrap_or(usual.top),
            from: mine.from_rank.unwrap_or(usual.from),
            to: mine.to_rank.unwrap_or(usual.to),
        };
        Some(Mine { source, window })
    }
}

fn mine_faults(mine: Option<Mine>, config: &TrainConfig) -> impl Iterator<Item = String> {
    let window = mine.and_then(|mine| mine.window.validate().err()).map(|fault| format!("mine: {fault}"));
    let unused = mine.is_some() && config.negatives.hard <= 0.0;
    let unused =
        unused.then(|| "mine: expected config.negatives.hard above 0, or what is mined is not used".to_owned());
    window.into_iter().chain(unused)
}

fn refuse_unknown(table: &mut Table, known: &[&str], at: &str, faults: &mut Vec<String>) {
    let unknown: Vec<String> = table.keys().filter(|key| !known.contains(&key.as_str())).cloned().collect();
    for key in unknown {
        table.remove(&key);
        faults.push(format!("{at}: unknown key `{key}`, expected {}", known.join(", ")));
    }
}

fn said(error: &toml::de::Error) -> String {
    error.to_string().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_recipes_are_valid_under_every_preset() {
        for (name, _) in BUILT_IN {
            for preset in pagoda_trainer::Preset::ALL {
                let recipes = read(&text(name).unwrap(), &[preset.toml()]).unwrap();
                assert!(recipes.len() >= 15, "{name}");
                assert!(recipes.iter().all(|recipe| recipe.name.len() <= 15 && !recipe.description.is_empty()));
            }
        }
        let negatives = read(&text("negatives").unwrap(), &[]).unwrap();
        assert_eq!(negatives[0].config, normal(TrainConfig::default()), "random is the default");
        let mined = |name: &str| negatives.iter().find(|recipe| recipe.name == name).unwrap().mine.unwrap();
        assert_eq!(mined("hard-truth"), Mine { source: MineSource::Truth, window: Window::default() });
        assert_eq!(mined("ranks-1-100").window, Window { top: 1000, from: 1, to: 100 });
    }

    #[test]
    fn a_recipe_is_laid_over_the_shared_settings() {
        let text = "[[recipe]]\nname = \"a\"\n[[recipe]]\nname = \"b\"\ndescription = \"B.\"\n[recipe.config.training]\nepochs = 7\n\
            [recipe.mine]\nsource = \"none\"";
        let recipes = read(text, &["[training]\nepochs = 3\nbatch_size = 64"]).unwrap();
        let trainings: Vec<_> =
            recipes.iter().map(|r| (r.config.training.epochs, r.config.training.batch_size)).collect();
        assert_eq!(trainings, [(3, 64), (7, 64)]);
        assert_eq!((recipes[1].mine, recipes[1].overlay.as_str()), (None, "[training]\nepochs = 7\n"));
        let names = |only: &[&str]| {
            let names: Vec<String> = only.iter().map(|&name| name.to_owned()).collect();
            super::only(recipes.clone(), &names).map(|found| found.iter().map(|r| r.name.clone()).collect::<String>())
        };
        assert_eq!((names(&[]).unwrap(), names(&["b"]).unwrap()), ("ab".into(), "b".into()));
        assert!(names(&["a", "c"]).unwrap_err().to_string().contains("no recipe c; there are a, b"));
    }

    #[test]
    fn every_fault_names_its_recipe() {
        let text = r#"
            colour = "red"
            [[recipe]]
            name = "first"
            size = 1
            [recipe.config.training]
            epochs = 0
            batch_size = 1
            [[recipe]]
            name = "second"
            [recipe.config]
            seed = 7
            [recipe.mine]
            source = "model"
            ranks = 5
            from_rank = 9
            to_rank = 8
            [[recipe]]
            description = "no name"
            [[recipe]]
            name = "fourth"
            [recipe.mine]
            source = "oracle"
            [[recipe]]
            name = "fifth"
            [recipe.config.negatives]
            hard = 0.0
            hard_file = "hard.parquet"
            [recipe.mine]
            source = "truth"
            [[recipe]]
            name = "sixth"
            [recipe.config.training]
            epoch = 3
            [[recipe]]
            name = "a, b"
        "#;
        let InvalidRecipes(faults) = read(text, &[]).unwrap_err();
        let expected = [
            ("the file", "`colour`"),
            ("recipe 1 `first`", "`size`"),
            ("recipe 1 `first`", "training.epochs"),
            ("recipe 1 `first`", "training.batch_size"),
            ("recipe 2 `second`", "mine: unknown key `ranks`"),
            ("recipe 2 `second`", "config.seed"),
            ("recipe 2 `second`", "ranks 9 to 8"),
            ("recipe 3", "name"),
            ("recipe 4 `fourth`", "oracle"),
            ("recipe 5 `fifth`", "hard_file"),
            ("recipe 5 `fifth`", "negatives.hard above 0"),
            ("recipe 6 `sixth`", "epoch"),
            ("recipe 7 `a, b`", "without commas"),
        ];
        assert_eq!(faults.len(), expected.len(), "{faults:#?}");
        for (fault, (place, what)) in faults.iter().zip(expected) {
            assert!(fault.starts_with(place) && fault.contains(what), "{fault}: {place} {what}");
        }
        let one = |text: &str| read(text, &[]).unwrap_err().to_string();
        assert!(one("").contains("at least one [[recipe]]"));
        assert!(
            one("[[recipe]]\nname = \"a\"\n[[recipe]]\nname = \"a\"").contains("recipe 2: expected a name of its own")
        );
        assert!(one("recipe = [1]").contains("recipe 1: expected a table, found integer"));
    }
}
