//! The feature snapshot: what is known of every user, from which requests are completed.

use std::collections::HashMap;

use arc_swap::ArcSwap;
use pagoda_model::{
    Entity, RawFeatures,
    features::{self, InvalidFeatures},
    schema::EntitySchema,
};

/// What is known of every user, as one immutable value.
#[derive(Debug, Default)]
pub(crate) struct UserSnapshot {
    version: u64,
    features: HashMap<Box<str>, RawFeatures>,
}

/// The snapshot in use.
pub(crate) type Users = ArcSwap<UserSnapshot>;

impl UserSnapshot {
    /// The snapshot that the registry calls `version`.
    pub(crate) fn new(version: u64, users: Vec<Entity>) -> Self {
        Self { version, features: users.into_iter().map(|user| (user.id.into(), user.features)).collect() }
    }

    /// The registry's version; 0: there is no snapshot yet.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// How many users are known.
    pub(crate) fn len(&self) -> usize {
        self.features.len()
    }

    /// Adds what is known of the user and what the request leaves unsaid, as far as the schema takes it: the snapshot and
    /// the model may be of different ages. Returns whether the user is known.
    pub(crate) fn complete(&self, user: &mut Entity, schema: &EntitySchema) -> bool {
        let Some(known) = self.features.get(user.id.as_str()) else { return false };
        let mut usable = Entity { id: String::new(), features: known.clone() };
        if let Err(InvalidFeatures(faults)) = features::validate(schema, &usable) {
            faults.iter().for_each(|fault| drop(usable.features.remove(&fault.feature)));
        }
        for (name, value) in usable.features {
            user.features.entry(name).or_insert(value);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use pagoda_model::{
        FeatureValue,
        schema::{Feature, FeatureKind},
    };

    use super::*;

    fn user(id: &str, features: &[(&str, f64)]) -> Entity {
        let features = features.iter().map(|&(name, n)| (name.to_owned(), FeatureValue::Number(n))).collect();
        Entity { id: id.into(), features }
    }

    fn schema(names: &[&str]) -> EntitySchema {
        let kind = FeatureKind::Numeric { scale: Default::default() };
        let feature = |name: &&str| Feature::new(*name, kind.clone());
        EntitySchema { id: "id".into(), title: None, features: names.iter().map(feature).collect() }
    }

    #[test]
    fn features_that_the_model_does_not_have_are_left_out() {
        let snapshot = UserSnapshot::new(1, vec![user("a", &[("age", 30.0), ("new", 1.0)])]);
        let mut known = user("a", &[]);
        snapshot.complete(&mut known, &schema(&["age"]));
        assert_eq!(known, user("a", &[("age", 30.0)]));
    }

    #[test]
    fn the_request_wins_feature_by_feature() {
        let schema = schema(&["age", "height"]);
        let snapshot = UserSnapshot::new(3, vec![user("a", &[("age", 30.0), ("height", 180.0)])]);
        let mut known = user("a", &[("age", 31.0)]);
        assert!(snapshot.complete(&mut known, &schema));
        assert_eq!(known, user("a", &[("age", 31.0), ("height", 180.0)]));
        for id in ["b", ""] {
            let mut unknown = user(id, &[]);
            assert!(!snapshot.complete(&mut unknown, &schema));
            assert_eq!(unknown, user(id, &[]), "an unknown user is an ordinary one");
        }
    }
}
