//! New items: embedded from their content alone, upserted, and recalled for the users who truly like them.

use std::time::Instant;

use anyhow::{Context, Result};
use pagoda_proto::item::v1::UpsertItemsRequest;
use pagoda_simulator::World;
use serde::Serialize;

use super::people::recall;
use crate::{
    clients::Clients,
    output::{say, shorten, table},
    refusal::refusal,
    wire::to_wire,
};

const ITEMS: usize = 10;
const FANS: usize = 5;
const K: u32 = 200;
const SHOWN: usize = 5;

/// What became of the new items.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Born {
    pub(super) items: usize,
    /// How many of them were recalled for at least one of the users who like them most.
    pub(super) items_recalled: usize,
    pub(super) fans_per_item: usize,
    pub(super) k: u32,
    pub(super) upsert_ms: f64,
}

/// Upserts new items and looks for them in what is recalled for their truest fans.
pub(super) async fn show(world: &World, clients: &mut Clients) -> Result<Born> {
    let born = world.born_later(ITEMS);
    let began = Instant::now();
    let items = born.iter().map(|b| to_wire(&b.entity)).collect();
    let upserted = clients.items.upsert_items(UpsertItemsRequest { items }).await.map_err(|s| refusal(&s))?;
    let upsert_ms = began.elapsed().as_secs_f64() * 1000.0;
    let lsn = upserted.into_inner().lsn;
    say(format_args!("{ITEMS} new items embedded and acknowledged at lsn {lsn} in {upsert_ms:.1} ms"));

    let mut rows = Vec::new();
    let mut items_recalled = 0;
    for item in &born {
        let best = best_rank(world, item, clients).await?;
        items_recalled += usize::from(best.is_some());
        if let Some((user, rank)) = best
            && rows.len() < SHOWN
        {
            rows.push(vec![shorten(&item.title, 40), user, rank.to_string()]);
        }
    }
    say(format_args!(
        "{items_recalled} of {ITEMS} are among the top {K} of one of the {FANS} users who truly like them most:"
    ));
    say(table(&["new item", "user", "rank"], &[2], rows));
    Ok(Born { items: ITEMS, items_recalled, fans_per_item: FANS, k: K, upsert_ms })
}

async fn best_rank(
    world: &World,
    item: &pagoda_simulator::BornItem,
    clients: &mut Clients,
) -> Result<Option<(String, usize)>> {
    let mut best: Option<(String, usize)> = None;
    for user in world.fans_of(&item.entity.id, FANS).context("the item is of this world")? {
        let reply = recall(clients, &user, K).await?;
        let Some(rank) = reply.candidates.iter().position(|c| c.item_id == item.entity.id) else { continue };
        if best.as_ref().is_none_or(|(_, found)| rank + 1 < *found) {
            best = Some((user, rank + 1));
        }
    }
    Ok(best)
}
