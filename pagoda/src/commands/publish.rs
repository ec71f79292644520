//! `pagoda publish`: makes a generation in the store the current one of its space, if need be by force.

use anyhow::{Result, anyhow};
use pagoda_proto::index::v1::PublishGenerationRequest;
use serde_json::json;
use tonic::Status;
use tonic_types::StatusExt;

use super::generations::{list, named, space};
use crate::{
    addresses::Addresses,
    cli::PublishArgs,
    clients::index_client,
    output::{say, say_json},
    refusal::refusal,
};

pub(crate) async fn run(args: &PublishArgs) -> Result<()> {
    let addresses = Addresses::find(args.services.addresses.as_deref())?;
    let mut index = index_client(&addresses, args.services.deadline()).await?;
    let listed = list(&mut index, true).await?;
    let generation = named(&listed, &args.generation)?;
    let id = &generation.generation_id;
    let before = listed.iter().find(|one| one.is_current && space(one) == space(generation));
    let request = PublishGenerationRequest {
        generation_id: id.clone(),
        expected_generation_id: None,
        forced_by: args.force_as.clone().unwrap_or_default(),
    };
    let lsn = index.publish_generation(request).await.map_err(|s| refused(&s, id))?.into_inner().lsn;
    let before = before.map(|before| before.generation_id.as_str());
    if args.json {
        return say_json(&json!({ "generation_id": id, "lsn": lsn, "before": before }));
    }
    say(format_args!("generation {id} is current, at lsn {lsn}"));
    if let Some(before) = before.filter(|before| before != id) {
        say(format_args!("before    {before}"));
        say(format_args!("to undo   pagoda rollback --generation {before}"));
    }
    Ok(())
}

/// A refusal; by gates, with what an operator can do about it.
fn refused(status: &Status, id: &str) -> anyhow::Error {
    let by_gates = status.get_details_error_info().is_some_and(|info| info.reason == "GATE_REFUSED");
    match by_gates {
        true => anyhow!("{}\n{}", refusal(status), how_to_force(id)),
        false => refusal(status),
    }
}

/// How a generation is published that gates refuse.
pub(super) fn how_to_force(id: &str) -> String {
    format!("to publish it all the same:\n  pagoda publish {id} --force-as NAME")
}
