//! What is told of the world: the schema, and users and items as entities. Of the latent nature of things only what a
//! shop would know.

use pagoda_model::{
    Entity, FeatureValue, RawFeatures, Schema,
    schema::{EntitySchema, Feature, FeatureKind, InteractionSchema, NumericScale},
};

use crate::{
    item::Item,
    society::{AGE_BANDS, REGIONS, imprint_name},
    themes::Themes,
    user::User,
};

const HISTORY_LENGTH_MAX: usize = 50;
const TITLE_BUCKETS: usize = 16_384;

/// From here on, a dimension of style shows as a tag; the first dimension shows in the price.
const STYLE_SHOWS_FROM: f64 = 0.7;
const STYLE_TAGS: [(usize, &str, &str); 2] = [(1, "light", "in depth"), (2, "classic", "contemporary")];

/// By which candidates may be filtered.
const FILTERABLE: [&str; 4] = ["category", "tags", "price", "brand"];

pub(crate) fn schema() -> Schema {
    let user = [
        ("age_band", FeatureKind::Categorical),
        ("region", FeatureKind::Categorical),
        ("history", FeatureKind::Sequence { max_length: HISTORY_LENGTH_MAX }),
    ];
    let mut item = features([
        ("item_id", FeatureKind::Id { hash_buckets: None }),
        ("category", FeatureKind::Categorical),
        ("tags", FeatureKind::CategoricalList),
        ("title", FeatureKind::Text { buckets: TITLE_BUCKETS }),
        ("price", FeatureKind::Numeric { scale: NumericScale::Log }),
        ("brand", FeatureKind::Categorical),
    ]);
    item.iter_mut().for_each(|feature| feature.filterable = FILTERABLE.contains(&feature.name.as_str()));
    Schema {
        user: EntitySchema { id: "user_id".into(), title: None, features: features(user) },
        item: EntitySchema { id: "item_id".into(), title: Some("title".into()), features: item },
        interactions: InteractionSchema::default(),
    }
}

fn features<const N: usize>(features: [(&str, FeatureKind); N]) -> Vec<Feature> {
    features.into_iter().map(|(name, kind)| Feature::new(name, kind)).collect()
}

pub(crate) fn user_id(place: usize) -> String {
    format!("u{}", place + 1)
}

pub(crate) fn item_id(place: usize) -> String {
    format!("i{}", place + 1)
}

/// The place of a user (`prefix` u) or an item (i) of an id as the functions above write it.
pub(crate) fn place_of(id: &str, prefix: char) -> Option<usize> {
    let number = id.strip_prefix(prefix)?;
    let canonical = number.bytes().all(|b| b.is_ascii_digit()) && !number.starts_with('0');
    number.parse::<usize>().ok().filter(|_| canonical)?.checked_sub(1)
}

pub(crate) fn user_entity(place: usize, user: &User) -> Entity {
    let features = [("age_band", text(AGE_BANDS[user.age_band])), ("region", text(REGIONS[user.region]))];
    Entity { id: user_id(place), features: named(features) }
}

pub(crate) fn item_entity(place: usize, item: &Item, title: &str, themes: &Themes) -> Entity {
    let features = [
        ("category", text(themes.category_name(item.theme))),
        ("tags", FeatureValue::Texts(tags(item, themes))),
        ("title", text(title)),
        ("price", FeatureValue::Number(item.price)),
        ("brand", FeatureValue::Text(imprint_name(item.imprint))),
    ];
    Entity { id: item_id(place), features: named(features) }
}

fn tags(item: &Item, themes: &Themes) -> Vec<String> {
    let about = [Some(item.theme), item.second_theme].into_iter().flatten().map(|theme| themes.name(theme));
    let style = STYLE_TAGS.iter().filter_map(|&(dimension, low, high)| match item.style.0[dimension] {
        x if x >= STYLE_SHOWS_FROM => Some(high),
        x if x <= -STYLE_SHOWS_FROM => Some(low),
        _ => None,
    });
    about.chain(style).map(str::to_owned).collect()
}

fn text(text: &str) -> FeatureValue {
    FeatureValue::Text(text.to_owned())
}

fn named<const N: usize>(features: [(&str, FeatureValue); N]) -> RawFeatures {
    features.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_valid() {
        assert_eq!(schema().validate(), Ok(()));
        assert_eq!(schema().history(), Some(("history", 50)));
    }

    #[test]
    fn only_ids_as_they_are_written_have_a_place() {
        assert_eq!(place_of(&user_id(0), 'u'), Some(0));
        assert_eq!(place_of(&item_id(19_999), 'i'), Some(19_999));
        for id in ["", "u", "u0", "u01", "u+1", "i1", "u99999999999999999999999"] {
            assert_eq!(place_of(id, 'u'), None, "{id}");
        }
    }
}
