//! The walk of one request: complete the user, embed, search, candidates.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arc_swap::ArcSwapOption;
use pagoda_inference::{Embedded, Tower};
use pagoda_model::{Embedding, Entity, FeatureValue, ItemId, ModelVersion, bundle::ModelBundle};
use pagoda_server::{Deadline, status::Violation};

use crate::{
    active::HeldSpaces,
    error::Error,
    index::{Index, Search},
    users::Users,
    wire::{self, Checked, Limits},
};

/// Who wants how many candidates.
#[derive(Clone, Debug)]
pub(crate) struct Recall {
    /// The user, with what the caller knows.
    pub(crate) user: Entity,
    /// How many candidates, at least 1.
    pub(crate) k: u32,
    /// Items that must not be recalled.
    pub(crate) exclude: Vec<ItemId>,
    /// Whether the history's items may be recalled again.
    pub(crate) include_history: bool,
    /// What objectives weigh; none: as the model says.
    pub(crate) objective_weights: BTreeMap<String, f32>,
    /// Which items may be recalled.
    pub(crate) limits: Limits,
}

/// Users to embed.
#[derive(Clone, Debug)]
pub(crate) struct EmbedUsers {
    /// The users, with what the caller knows.
    pub(crate) users: Vec<Entity>,
    /// What objectives weigh; none: as the model says.
    pub(crate) objective_weights: BTreeMap<String, f32>,
}

/// The candidates, and what they came from.
#[derive(Clone, Debug)]
pub(crate) struct Recalled {
    pub(crate) found: Found,
    /// The model that embedded the user.
    pub(crate) model: ModelVersion,
    /// Whether the snapshot knows the user.
    pub(crate) user_known: bool,
    /// How many items of the history the model used.
    pub(crate) history_length: u32,
}

/// An item found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Candidate {
    /// The item.
    pub(crate) item_id: String,
    /// The inner product, higher is better.
    pub(crate) score: f32,
    /// Whether it is a fresh one.
    pub(crate) from_delta: bool,
}

/// What a search found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Best first.
    pub(crate) candidates: Vec<Candidate>,
    /// Whether these are all there are.
    pub(crate) exhausted: bool,
    pub(crate) generation_id: String,
    pub(crate) lsn: u64,
}

/// What the calls share.
#[derive(Debug)]
pub(crate) struct Entrance {
    pub(crate) tower: Tower,
    pub(crate) users: Users,
    pub(crate) held: HeldSpaces,
    pub(crate) index: Index,
    /// Why newer models and features cannot be looked for, if they cannot.
    pub(crate) registry_trouble: ArcSwapOption<String>,
}

impl Entrance {
    /// Recalls the candidates of one user. When the index holds other spaces than was thought, the model is chosen anew and
    /// the search is tried once more: so a rollout or a rollback costs nobody an error.
    pub(crate) async fn recall(&self, request: &Checked<Recall>, deadline: Deadline) -> Result<Recalled, Error> {
        let model = self.model_for(&request.violations)?;
        match self.attempt(request, &model, deadline).await {
            Err(Error::SpaceNotHeld { held }) => {
                // By this very answer: a poll that began before it may be noted after it.
                let version = self.held.set(held).choose(&self.tower.loaded())?;
                let model = self.tower.model(Some(version))?;
                self.attempt(request, &model, deadline).await
            }
            attempted => attempted,
        }
    }

    /// Embeds users with the active model, completed from the snapshot. Needs no index: while there is none, the newest
    /// model embeds.
    pub(crate) async fn embed(&self, request: Checked<EmbedUsers>) -> Result<Embedded, Error> {
        let Checked { value: EmbedUsers { mut users, objective_weights }, mut violations } = request;
        let model = self.tower.model(self.active().ok())?;
        violations.extend(wire::weight_violations(&objective_weights, &model));
        let snapshot = self.users.load_full();
        for (i, user) in users.iter_mut().enumerate() {
            violations.extend(wire::feature_violations(&wire::user_path(i), user, &model));
            snapshot.complete(user, &model.schema().user);
        }
        // Who replaces it frees it, rather than a call that is still in the tower.
        drop(snapshot);
        refuse(violations)?;
        let embedded = self.tower.embed(Some(model.version()), users).await?;
        weighed(embedded, &objective_weights, &model)
    }

    /// The model that answers.
    pub(crate) fn active(&self) -> Result<ModelVersion, Error> {
        self.held.choose(&self.tower.loaded())
    }

    /// The model that answers; a request at fault hears of its faults even while there is none.
    fn model_for(&self, violations: &[Violation]) -> Result<Arc<ModelBundle>, Error> {
        match self.active() {
            Ok(version) => Ok(self.tower.model(Some(version))?),
            Err(error) => refuse(violations.to_vec()).and(Err(error)),
        }
    }

    /// One straight walk with one model.
    async fn attempt(
        &self,
        request: &Checked<Recall>,
        model: &ModelBundle,
        deadline: Deadline,
    ) -> Result<Recalled, Error> {
        let Checked { value: recall, violations } = request;
        let mut user = recall.user.clone();
        let weights = &recall.objective_weights;
        let of_model = [wire::feature_violations("user", &user, model), wire::weight_violations(weights, model)];
        refuse([violations.clone(), of_model.concat()].concat())?;
        let user_known = self.users.load().complete(&mut user, &model.schema().user);
        let history = history(&user, model);
        let exclude = excluded(recall, history.all);
        let history_length = history.used as u32;
        let embedded = weighed(self.tower.embed(Some(model.version()), vec![user]).await?, weights, model)?;
        let remaining = deadline.remaining();
        let limits = recall.limits.clone();
        let search =
            Search { model: model.version(), embedding: only(embedded)?, k: recall.k, exclude, limits, remaining };
        let found = self.index.search(search).await?;
        Ok(Recalled { found, model: model.version(), user_known, history_length })
    }
}

/// A user's history: all of it, and how many of its items the model uses.
struct History {
    all: Vec<ItemId>,
    used: usize,
}

fn history(user: &Entity, model: &ModelBundle) -> History {
    let declared = model.schema().history();
    let found = declared.and_then(|(name, max_length)| Some((user.features.get(name)?, max_length)));
    let Some((FeatureValue::Texts(items), max_length)) = found else { return History { all: Vec::new(), used: 0 } };
    // An id that no item can have excludes none.
    let all = items.iter().filter_map(|id| ItemId::new(id).ok()).collect();
    History { all, used: items.len().min(max_length) }
}

/// What the caller excludes and, unless it may be recalled again, the history; each once. A search takes as many as both may be.
fn excluded(recall: &Recall, history: Vec<ItemId>) -> Vec<ItemId> {
    let history = if recall.include_history { Vec::new() } else { history };
    let ids: BTreeSet<ItemId> = recall.exclude.iter().cloned().chain(history).collect();
    ids.into_iter().collect()
}

/// The embeddings with their objectives weighed. Weights at fault were refused before.
fn weighed(embedded: Embedded, weights: &BTreeMap<String, f32>, model: &ModelBundle) -> Result<Embedded, Error> {
    let Embedded { version, embeddings } = embedded;
    let weighed: Result<Vec<Embedding>, _> = embeddings.iter().map(|e| model.weigh(e, weights)).collect();
    Ok(Embedded { version, embeddings: weighed.map_err(|e| Error::Internal(e.to_string()))? })
}

fn only(embedded: Embedded) -> Result<Embedding, Error> {
    let mut embeddings = embedded.embeddings.into_iter();
    embeddings.next().ok_or_else(|| Error::Internal("the tower embedded one user into nothing".into()))
}

fn refuse(violations: Vec<Violation>) -> Result<(), Error> {
    if violations.is_empty() { Ok(()) } else { Err(Error::Invalid(violations)) }
}
