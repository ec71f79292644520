//! A feature as `schema.toml` states it: every key by itself, whatever its kind, so that a fault points at the line of its key.

use serde::Deserialize;

use super::{Feature, FeatureKind, NumericScale};

const MAX_LENGTH: usize = 50;
const TEXT_BUCKETS: usize = 16_384;

/// `[[user.feature]]` or `[[item.feature]]`. A key of another kind says nothing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenFeature {
    name: String,
    #[serde(default)]
    filterable: bool,
    kind: Kind,
    hash_buckets: Option<usize>,
    max_length: Option<usize>,
    scale: Option<NumericScale>,
    buckets: Option<usize>,
    dim: Option<usize>,
}

/// The names of [`FeatureKind`].
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Id,
    Categorical,
    CategoricalList,
    Sequence,
    Numeric,
    Text,
    Dense,
}

impl TryFrom<WrittenFeature> for Feature {
    type Error = &'static str;

    fn try_from(written: WrittenFeature) -> Result<Self, &'static str> {
        let kind = match written.kind {
            Kind::Id => FeatureKind::Id { hash_buckets: written.hash_buckets },
            Kind::Categorical => FeatureKind::Categorical,
            Kind::CategoricalList => FeatureKind::CategoricalList,
            Kind::Sequence => FeatureKind::Sequence { max_length: written.max_length.unwrap_or(MAX_LENGTH) },
            Kind::Numeric => FeatureKind::Numeric { scale: written.scale.unwrap_or_default() },
            Kind::Text => FeatureKind::Text { buckets: written.buckets.unwrap_or(TEXT_BUCKETS) },
            Kind::Dense => FeatureKind::Dense { dim: written.dim.ok_or("missing field `dim`")? },
        };
        Ok(Self { name: written.name, filterable: written.filterable, kind })
    }
}
