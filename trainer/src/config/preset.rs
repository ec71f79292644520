//! Presets: what differs from the defaults for a known protocol.

use std::str::FromStr;

use pagoda_model::{Schema, schema::Split};

/// A known protocol of public data sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Ordered sequences, each user's last item left out (as of SASRec, ICDM 2018): a causal transformer as the user tower.
    Sequences,
    /// Implicit feedback without order, training and test given (as of LightGCN, SIGIR 2020).
    Implicit,
}

/// A name that is no preset's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one of {}, found `{found}`", Preset::ALL.map(Preset::name).join(", "))]
pub struct UnknownPreset {
    /// The name.
    pub found: String,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 2] = [Self::Sequences, Self::Implicit];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sequences => "sequences",
            Self::Implicit => "implicit",
        }
    }

    /// Why a preset is not meant for data of a schema; None: it is.
    pub fn misfit(self, schema: &Schema) -> Option<String> {
        let wanted = match self {
            Self::Sequences => Split::LeaveLastOut,
            Self::Implicit => Split::Given,
        };
        let split = schema.interactions.split;
        let other = (split != wanted).then(|| {
            format!("a schema with interactions.split = \"{}\", found \"{}\"", written(wanted), written(split))
        });
        let no_history =
            schema.history().is_none().then(|| "a user feature of the kind `sequence`, found none".to_owned());
        let faults: Vec<String> = other.into_iter().chain(no_history).collect();
        (!faults.is_empty()).then(|| format!("the preset {} is meant for {}", self.name(), faults.join(", and for ")))
    }

    /// The commented file of what differs from the defaults.
    pub const fn toml(self) -> &'static str {
        match self {
            Self::Sequences => include_str!("../../presets/sequences.toml"),
            Self::Implicit => include_str!("../../presets/implicit.toml"),
        }
    }
}

/// As a schema has it.
const fn written(split: Split) -> &'static str {
    match split {
        Split::Temporal => "temporal",
        Split::LeaveLastOut => "leave_last_out",
        Split::Given => "given",
    }
}

impl FromStr for Preset {
    type Err = UnknownPreset;
    fn from_str(text: &str) -> Result<Self, UnknownPreset> {
        let found = || UnknownPreset { found: text.chars().take(60).collect() };
        Self::ALL.into_iter().find(|preset| preset.name() == text).ok_or_else(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preset_says_what_data_it_is_not_meant_for() {
        let schema = |text: &str| Schema::from_toml(text).unwrap();
        let user = "[user]\nid = \"u\"\nfeature = [{ name = \"history\", kind = \"sequence\" }]";
        let item = "[item]\nid = \"i\"\nfeature = [{ name = \"i\", kind = \"id\" }]";
        let fits = schema(&format!("{user}\n{item}\n[interactions]\nsplit = \"leave_last_out\""));
        assert_eq!(Preset::Sequences.misfit(&fits), None);
        let message = Preset::Implicit.misfit(&fits).unwrap();
        assert!(message.contains("interactions.split = \"given\", found \"leave_last_out\""), "{message}");
        let bare = schema(&format!("[user]\nid = \"u\"\nfeature = [{{ name = \"u\", kind = \"id\" }}]\n{item}"));
        assert!(Preset::Sequences.misfit(&bare).unwrap().contains("kind `sequence`, found none"));
    }
}
