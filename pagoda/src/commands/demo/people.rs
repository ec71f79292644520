//! A few users: their history beside what was recalled for them, by title.

use std::collections::HashMap;

use anyhow::Result;
use pagoda_dataset::{Dataset, user_snapshot};
use pagoda_model::{Entity, FeatureValue};
use pagoda_proto::{
    feature::v1::Entity as WireEntity,
    recall::v1::{RecallRequest, RecallResponse},
};

use crate::{
    clients::Clients,
    commands::recall::titles,
    output::{say, shorten, table},
    refusal::refusal,
};

const USERS: usize = 3;
const SHOWN: usize = 6;
const TITLE_WIDTH: usize = 36;

/// Recalls for the first users with enough history and prints both sides.
pub(super) async fn show(data: &Dataset, clients: &mut Clients) -> Result<()> {
    let titles = titles(data)?;
    let users = user_snapshot(data)?.users.entities;
    for user in users.iter().filter(|u| history(data, u).len() >= SHOWN).take(USERS) {
        let reply = recall(clients, &user.id, SHOWN as u32).await?;
        say(format_args!("\nuser {}", user.id));
        say(side_by_side(&history(data, user), &reply, &titles));
    }
    Ok(())
}

fn side_by_side(history: &[String], reply: &RecallResponse, titles: &HashMap<String, String>) -> comfy_table::Table {
    let title = |id: &String| shorten(titles.get(id).unwrap_or(id), TITLE_WIDTH);
    let newest = history.iter().rev().take(SHOWN).map(title);
    let recalled = reply.candidates.iter().map(|c| title(&c.item_id));
    table(
        &["clicked, newest first", "recalled, best first"],
        &[],
        newest.zip(recalled).map(|(a, b)| vec![a, b]).collect(),
    )
}

/// The user's history in the snapshot, oldest first.
pub(super) fn history(data: &Dataset, user: &Entity) -> Vec<String> {
    let Some((name, _)) = data.schema().history() else { return Vec::new() };
    match user.features.get(name) {
        Some(FeatureValue::Texts(items)) => items.clone(),
        _ => Vec::new(),
    }
}

/// Recalls for a user whom the services know.
pub(super) async fn recall(clients: &mut Clients, user: &str, k: u32) -> Result<RecallResponse> {
    let user = WireEntity { id: user.to_owned(), ..Default::default() };
    let request = RecallRequest { user: Some(user), k, ..Default::default() };
    Ok(clients.recall.recall(request).await.map_err(|s| refusal(&s))?.into_inner())
}
