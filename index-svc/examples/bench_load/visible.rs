//! How long after a write is begun a search sees it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{Fault, catalog, open_loop::latencies, target::Target};

/// What is not seen after this is not going to be.
const PATIENCE: Duration = Duration::from_secs(30);

/// Upserts an item where a user is, so that it is that user's nearest, and looks for it until it is found; deletes it, and looks until it is gone; `count`
/// times. A search that still finds it after the delete was acknowledged is counted.
pub(crate) async fn measure(target: &Target, count: usize) -> Result<Value, Fault> {
    let (mut upserts, mut deletes, mut late) = (Vec::new(), Vec::new(), 0);
    let rows = target.items.rows();
    for number in 0..count {
        let place = target.users.row((number % target.users.rows()) as u32);
        // Far beyond the fresh items that are there.
        let item = catalog::item(10 * rows + number, place, rows);
        let id = item.item_id.clone();
        let began = Instant::now();
        catalog::upsert(target, vec![item]).await?;
        until(target, place, |nearest| nearest == Some(&id)).await?;
        upserts.push(began.elapsed());
        let began = Instant::now();
        catalog::delete(target, vec![id.clone()]).await?;
        late += until(target, place, |nearest| nearest != Some(&id)).await? - 1;
        deletes.push(began.elapsed());
    }
    Ok(
        json!({"upsert": latencies(&upserts), "delete": latencies(&deletes), "found_after_delete": late, "count": count}),
    )
}

/// Searches until what is nearest is as wanted; how many searches that took.
async fn until(target: &Target, place: &[f32], wanted: impl Fn(Option<&String>) -> bool) -> Result<usize, Fault> {
    let began = Instant::now();
    for searches in 1.. {
        if wanted(target.nearest(place).await?.as_ref()) {
            return Ok(searches);
        }
        if began.elapsed() > PATIENCE {
            break;
        }
    }
    Err("a write was never seen".into())
}
