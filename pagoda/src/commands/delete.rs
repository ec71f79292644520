//! `pagoda delete`: items that must not be recalled any more, at once and for good.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use pagoda_proto::index::v1::{DeleteRequest, DeleteResponse, index_service_client::IndexServiceClient};
use serde_json::json;
use tokio::time::sleep;
use tonic::Code;

use crate::{
    addresses::Addresses,
    channel::ServiceChannel,
    cli::DeleteArgs,
    clients::{index_client, retry_delay},
    output::{count, noted, say, say_json},
    refusal::refusal_of,
};

/// The most ids of one request.
const BATCH_IDS: usize = 4096;
/// Ids that are named of those that the index did not hold.
const NAMED: usize = 5;
const ATTEMPTS: u32 = 5;
const UNCERTAIN: &str = "the next ones may be deleted all the same: to repeat the command does no harm";
const FIRST_WAIT: Duration = Duration::from_millis(200);

pub(crate) async fn run(args: &DeleteArgs) -> Result<()> {
    let ids = match &args.file {
        Some(path) => read(path)?,
        None => args.item_ids.clone(),
    };
    let addresses = Addresses::find(args.services.addresses.as_deref())?;
    let mut index = index_client(&addresses, args.services.deadline()).await?;
    let (mut done, mut lsn, mut not_held) = (0, 0, Vec::new());
    for batch in ids.chunks(BATCH_IDS) {
        let reply = delete(&mut index, batch)
            .await
            .with_context(|| format!("{} of {} ids were deleted, then", count(done as u64), count(ids.len() as u64)))?;
        done += batch.len();
        lsn = reply.lsn;
        not_held.extend(reply.not_held_item_ids);
    }
    let deleted = done - not_held.len();
    if args.json {
        return say_json(&json!({ "items_deleted": deleted, "not_held": not_held, "lsn": lsn }));
    }
    say(format_args!("{} items deleted, at lsn {lsn}", count(deleted as u64)));
    if !not_held.is_empty() {
        let named: Vec<_> = not_held.iter().take(NAMED).map(|id| format!("`{id}`")).collect();
        let more = if not_held.len() > NAMED { ", ..." } else { "" };
        let (n, named) = (count(not_held.len() as u64), named.join(", "));
        say(noted(&format!("the index held no item of {n} of the ids: {named}{more}")));
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).with_context(|| format!("--file {}", path.display()))?;
    let ids: Vec<String> = text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    ensure!(!ids.is_empty(), "--file {}: expected an id on each line, found none", path.display());
    Ok(ids)
}

/// Deletes a batch; tries again under the same name while the index is away, so that it happens once.
async fn delete(index: &mut IndexServiceClient<ServiceChannel>, ids: &[String]) -> Result<DeleteResponse> {
    let request_id = format!("pagoda-delete-{:032x}", rand::random::<u128>());
    let request = DeleteRequest { item_ids: ids.to_vec(), request_id };
    let (mut attempt, mut wait) = (1, FIRST_WAIT);
    loop {
        match index.delete(request.clone()).await {
            Ok(reply) => return Ok(reply.into_inner()),
            Err(status) if status.code() == Code::Unavailable && attempt < ATTEMPTS => {
                sleep(retry_delay(&status).unwrap_or(wait)).await;
                (attempt, wait) = (attempt + 1, wait * 2);
            }
            Err(status) => {
                let refused = refusal_of(&status, |path| named(path, ids));
                return Err(if is_certain(status.code()) { refused } else { anyhow!("{refused}\n{UNCERTAIN}") });
            }
        }
    }
}

/// Whether a call with this end changed nothing. Of one that got no answer nobody knows.
fn is_certain(code: Code) -> bool {
    !matches!(code, Code::DeadlineExceeded | Code::Unavailable | Code::Cancelled | Code::Unknown | Code::Internal)
}

/// The id that a path of the request is about.
fn named(path: &str, ids: &[String]) -> Option<String> {
    let place: usize = path.strip_prefix("item_ids[")?.strip_suffix(']')?.parse().ok()?;
    Some(format!("id `{}`", ids.get(place)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_at_fault_is_named_itself() {
        let ids = ["a".to_owned(), "b".to_owned()];
        assert_eq!(named("item_ids[1]", &ids).unwrap(), "id `b`");
        assert!(["item_ids[2]", "item_ids", "request_id"].iter().all(|path| named(path, &ids).is_none()));
    }

    #[test]
    fn a_file_has_one_id_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ids.txt");
        fs::write(&path, "i1\r\n\na,b \nlast").unwrap();
        assert_eq!(read(&path).unwrap(), ["i1", "a,b ", "last"]);
        fs::write(&path, "\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("ids.txt: expected an id on each line"));
        assert!(read(&dir.path().join("none")).unwrap_err().to_string().contains("none"));
    }
}
