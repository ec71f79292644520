//! What the encoder learns before anything is fitted: vocabularies and scales; and whom a bundle remembers.

use pagoda_dataset::history_limit;
use pagoda_model::{
    Entity, FeatureValue, Side,
    bundle::SAMPLE_USERS_LIMIT,
    features::{Encoder, Vocabularies, VocabularyBuilder, VocabularyLimits},
};
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use crate::{
    config::TrainConfig,
    data::{Data, Part, Tally},
    engine::Encoded,
    error::TrainError,
};

/// Vocabularies of what training may know, and everything encoded with them.
pub(crate) struct Learned {
    pub(crate) vocabularies: Vocabularies,
    pub(crate) encoder: Encoder,
    pub(crate) encoded: Encoded,
}

impl Learned {
    /// From all features, and from ids as often as they were positives.
    pub(crate) fn new(data: &Data, tally: &Tally, config: &TrainConfig) -> Result<Self, TrainError> {
        let mut builder = VocabularyBuilder::new(&data.schema);
        for (side, entities) in [(Side::User, &data.users), (Side::Item, &data.catalog)] {
            for entity in entities {
                let fault = |source| TrainError::Features { side, id: entity.id.clone(), source };
                builder.observe(side, entity).map_err(fault)?;
            }
        }
        for (side, entities, counts) in
            [(Side::User, &data.users, &tally.users), (Side::Item, &data.catalog, &tally.items)]
        {
            for (entity, &count) in entities.iter().zip(counts).filter(|&(_, &count)| count > 0) {
                builder.observe_id_times(side, &entity.id, u64::from(count));
            }
        }
        let vocabulary = &config.vocabulary;
        let limits = VocabularyLimits {
            min_count: vocabulary.min_count,
            size_max: vocabulary.size_max,
            oov_rows: vocabulary.oov_rows,
        };
        let vocabularies = builder.finish(limits);
        let encoder = Encoder::new(data.schema.clone().into(), &vocabularies)?;
        let encoded = Encoded::new(&encoder, data)?;
        Ok(Self { vocabularies, encoder, encoded })
    }
}

/// Users of the kept parts of the log with their features and histories as of their end.
pub(crate) fn sample_users(
    data: &Data,
    keep: fn(Part) -> bool,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<Entity>, TrainError> {
    let tally = data.tally(keep)?;
    let known: Vec<u32> = (0..data.users.len() as u32).filter(|&user| tally.users[user as usize] > 0).collect();
    let chosen = index::sample(rng, known.len(), known.len().min(SAMPLE_USERS_LIMIT));
    let places: Vec<u32> = chosen.iter().map(|i| known[i]).collect();
    let mut entities: Vec<Entity> = places.iter().map(|&user| data.users[user as usize].clone()).collect();
    let Some((history, _)) = data.schema.history() else { return Ok(entities) };
    let limit = history_limit(&data.schema);
    for partition in 0..data.log.partitions() {
        let timelines = data.log.load(partition)?.retain(keep);
        for (entity, &user) in entities.iter_mut().zip(&places) {
            let Some(n) = timelines.of_user(user) else { continue };
            let items = timelines.timeline(n).items;
            let newest = &items[items.len().saturating_sub(limit)..];
            let ids = newest.iter().map(|&item| data.catalog[item as usize].id.clone()).collect();
            entity.features.insert(history.to_owned(), FeatureValue::Texts(ids));
        }
    }
    Ok(entities)
}
