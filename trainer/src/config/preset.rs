//! Presets: what differs from the defaults for a known protocol.

use std::str::FromStr;

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

    /// The commented file of what differs from the defaults.
    pub const fn toml(self) -> &'static str {
        match self {
            Self::Sequences => include_str!("../../presets/sequences.toml"),
            Self::Implicit => include_str!("../../presets/implicit.toml"),
        }
    }
}

impl FromStr for Preset {
    type Err = UnknownPreset;
    fn from_str(text: &str) -> Result<Self, UnknownPreset> {
        let found = || UnknownPreset { found: text.chars().take(60).collect() };
        Self::ALL.into_iter().find(|preset| preset.name() == text).ok_or_else(found)
    }
}
