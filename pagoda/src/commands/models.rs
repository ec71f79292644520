//! `pagoda models`: the registered models, with which of them users are answered, and what the index holds of each.

use std::time::Duration;

use anyhow::{Error, Result};
use pagoda_proto::{
    index::v1::{
        GenerationStatus, ListGenerationsRequest, ListGenerationsResponse, index_service_client::IndexServiceClient,
    },
    user::v1::{
        GetUserTowerStatusRequest, GetUserTowerStatusResponse, user_tower_service_client::UserTowerServiceClient,
    },
};
use pagoda_registry::{Entry, Kind, Registry};
use serde_json::{Value, json};

use super::{
    generations::{short, space},
    heard::{ask, none_silent},
    refresh::{open_registry_of_services, open_registry_to_read},
    status::version,
};
use crate::{
    addresses::Addresses,
    cli::ModelsArgs,
    output::{say, say_json, table, utc},
};

/// What of a model's record says when it was trained, in milliseconds since 1970.
pub(super) const TRAINED_MS: &str = "trained_ms";

pub(crate) async fn run(args: &ModelsArgs) -> Result<()> {
    let (registry, served) = match &args.store {
        Some(store) => (open_registry_to_read(store).await?, Served::default()),
        None => {
            let addresses = Addresses::find(args.services.addresses.as_deref())?;
            let registry = open_registry_of_services(&addresses).await?;
            (registry, Served::look(&addresses, args.services.deadline()).await)
        }
    };
    let models = models(&registry, &served).await?;
    if args.json {
        say_json(&models.iter().map(Model::as_json).collect::<Vec<_>>())?;
    } else {
        say_models(&models);
    }
    none_silent(&served.silent)
}

/// What the services make of the models.
#[derive(Default)]
struct Served {
    users: Option<GetUserTowerStatusResponse>,
    generations: Option<Vec<GenerationStatus>>,
    silent: Vec<Error>,
}

/// A registered model. What nobody said is `None`.
struct Model {
    version: String,
    trained_ms: Option<i64>,
    is_newest: bool,
    is_served: Option<bool>,
    /// The current generation of its space; `Some(None)`: the index holds nothing of it.
    generation_id: Option<Option<String>>,
}

impl Served {
    async fn look(addresses: &Addresses, deadline: Duration) -> Self {
        let users = ask("user-tower-svc", addresses.user_tower, deadline, async |channel| {
            UserTowerServiceClient::new(channel).get_user_tower_status(GetUserTowerStatusRequest {}).await
        });
        let index = ask("index-svc", addresses.index, deadline, async |channel| {
            IndexServiceClient::new(channel).list_generations(ListGenerationsRequest::default()).await
        });
        let (users, index) = tokio::join!(users, index);
        let (mut served, listed) = (Self::default(), |listed: ListGenerationsResponse| listed.generations);
        served.users = users.said.map_err(|error| served.silent.push(error)).ok();
        served.generations = index.said.map(listed).map_err(|error| served.silent.push(error)).ok();
        served
    }
}

/// Each model once, the one that was registered last first.
async fn models(registry: &Registry, served: &Served) -> Result<Vec<Model>> {
    let mut models: Vec<Model> = Vec::new();
    for entry in registry.list(Kind::Model).await? {
        match models.iter_mut().find(|model| model.version == entry.label) {
            // The way back to a model records it again.
            Some(model) => model.trained_ms = model.trained_ms.or(trained_ms(&entry)),
            None => {
                let model = Model::new(&entry, models.is_empty(), served);
                models.push(model);
            }
        }
    }
    Ok(models)
}

fn trained_ms(entry: &Entry) -> Option<i64> {
    entry.metadata.get(TRAINED_MS)?.as_i64()
}

impl Model {
    fn new(entry: &Entry, is_newest: bool, served: &Served) -> Self {
        let version = entry.label.clone();
        let active = served.users.as_ref().map(|users| users.active_model.as_ref().map(self::version));
        let of_it = |one: &&GenerationStatus| one.is_current && version.split('/').next() == Some(space(one));
        let generation = |listed: &Vec<_>| listed.iter().find(of_it).map(|one| one.generation_id.clone());
        Self {
            trained_ms: trained_ms(entry),
            is_newest,
            is_served: active.map(|active| active.as_ref() == Some(&version)),
            generation_id: served.generations.as_ref().map(generation),
            version,
        }
    }

    fn state(&self) -> String {
        let states = [("newest", self.is_newest), ("served", self.is_served == Some(true))];
        states.into_iter().filter_map(|(state, holds)| holds.then_some(state)).collect::<Vec<_>>().join(", ")
    }

    fn as_json(&self) -> Value {
        json!({
            "model": self.version,
            "trained_ms": self.trained_ms,
            "is_newest": self.is_newest,
            "is_served": self.is_served,
            "generation_id": self.generation_id,
        })
    }
}

fn say_models(models: &[Model]) {
    let Some(newest) = models.first() else {
        say("no model is registered in the store; `pagoda train` makes one");
        return;
    };
    let rows = models.iter().map(|model| {
        let generation = match &model.generation_id {
            Some(Some(id)) => short(id).to_owned(),
            Some(None) => "none".to_owned(),
            None => String::new(),
        };
        vec![model.version.clone(), model.trained_ms.map(utc).unwrap_or_default(), model.state(), generation]
    });
    say(table(&["model", "trained (UTC)", "state", "generation"], &[], rows.collect()));
    if newest.is_served == Some(false) {
        say(waits(&newest.version));
    }
}

/// What is to be done about a newest model that users are not answered with.
pub(super) fn waits(model: &str) -> String {
    format!("{model} waits for `pagoda refresh --full --data DIR`")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use pagoda_commit_log::Store;
    use pagoda_proto::feature::v1::ModelVersion;

    use super::*;

    #[tokio::test]
    async fn each_model_is_listed_once_with_what_became_of_it() {
        let registry = Registry::open(Store::open("memory://").unwrap()).await.unwrap();
        for (label, said) in [("a/0", json!({})), ("b/0", json!({ TRAINED_MS: 7 })), ("c/0", json!({ TRAINED_MS: 8 }))]
        {
            let files = BTreeMap::from([("f".to_owned(), Bytes::from(label))]);
            registry.publish(Kind::Model, label, said, files).await.unwrap();
        }
        let entries = registry.list(Kind::Model).await.unwrap();
        registry.publish_again(&entries[1]).await.unwrap();
        let model = |space: &str| Some(ModelVersion { space_id: space.to_owned(), revision: 0 });
        let users = GetUserTowerStatusResponse { active_model: model("c"), ..Default::default() };
        let generation = |id: &str, is_current| GenerationStatus {
            generation_id: id.to_owned(),
            model_version: model(&id[..1]),
            is_current,
            ..Default::default()
        };
        let generations = vec![generation("c-0-1", true), generation("c-0-0", false), generation("a-0-0", false)];
        let served = Served { users: Some(users), generations: Some(generations), silent: Vec::new() };
        let found = models(&registry, &served).await.unwrap();
        let found: Vec<_> =
            found.iter().map(|m| (m.version.as_str(), m.trained_ms, m.state(), &m.generation_id)).collect();
        let held = Some(Some("c-0-1".to_owned()));
        assert_eq!(
            found,
            [
                ("b/0", Some(7), "newest".to_owned(), &Some(None)),
                ("c/0", Some(8), "served".to_owned(), &held),
                ("a/0", None, String::new(), &Some(None)),
            ]
        );
        let unasked = models(&registry, &Served::default()).await.unwrap();
        assert!(unasked.iter().all(|m| m.is_served.is_none() && m.generation_id.is_none()));
    }
}
