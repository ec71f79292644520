//! `pagoda generations`: what the index holds and, if asked for, what else is in the store.

use anyhow::{Result, anyhow};
use pagoda_proto::index::v1::{
    GateFailure, GenerationReport, GenerationState, GenerationStatus, ListGenerationsRequest,
    index_service_client::IndexServiceClient,
};
use serde_json::{Value, json};

use super::status::{kind_name, version};
use crate::{
    addresses::Addresses,
    channel::ServiceChannel,
    cli::GenerationsArgs,
    clients::index_client,
    output::{count, folded, say, say_json, table, utc},
    refusal::refusal,
};

pub(crate) async fn run(args: &GenerationsArgs) -> Result<()> {
    let addresses = Addresses::find(args.services.addresses.as_deref())?;
    let listed = list(&mut index_client(&addresses, args.services.deadline()).await?, args.all).await?;
    if args.json {
        return say_json(&listed.iter().map(as_json).collect::<Vec<_>>());
    }
    if listed.is_empty() {
        say("the index holds no generation yet; `pagoda refresh --full --data DIR` makes one");
    }
    for (model, generations) in by_model(&listed) {
        say(format_args!("model {model}"));
        say_generations(&generations);
    }
    Ok(())
}

/// Those of each model together, in the order in which the models come.
fn by_model(listed: &[GenerationStatus]) -> Vec<(String, Vec<&GenerationStatus>)> {
    let mut groups: Vec<(String, Vec<&GenerationStatus>)> = Vec::new();
    for one in listed {
        let model = model_of(one);
        match groups.iter_mut().find(|(other, _)| *other == model) {
            Some((_, group)) => group.push(one),
            None => groups.push((model, vec![one])),
        }
    }
    groups
}

/// The generations of the index, those of the space published last first; with `all`, then the others in the store.
pub(super) async fn list(index: &mut IndexServiceClient<ServiceChannel>, all: bool) -> Result<Vec<GenerationStatus>> {
    let request = ListGenerationsRequest { include_unpublished: all };
    Ok(index.list_generations(request).await.map_err(|s| refusal(&s))?.into_inner().generations)
}

/// The generation that a person names, in full or by the last part of its id.
pub(super) fn named<'a>(listed: &'a [GenerationStatus], name: &str) -> Result<&'a GenerationStatus> {
    let is_it = |one: &&GenerationStatus| one.generation_id == name || short(&one.generation_id) == name;
    listed.iter().find(is_it).ok_or_else(|| {
        anyhow!(
            "generation `{name}` is not among those there are: `pagoda generations` lists what can be rolled back to, and with `--all` what can be \
             published"
        )
    })
}

/// The last part of a generation's id, which is a digest of all that it is.
pub(super) fn short(id: &str) -> &str {
    id.rsplit('-').next().unwrap_or(id)
}

/// The space of a generation.
pub(super) fn space(generation: &GenerationStatus) -> &str {
    generation.model_version.as_ref().map_or("", |model| &model.space_id)
}

fn model_of(generation: &GenerationStatus) -> String {
    generation.model_version.as_ref().map(version).unwrap_or_default()
}

fn say_generations(generations: &[&GenerationStatus]) {
    let header = ["generation", "state", "items", "recall@100", "built (UTC)"];
    let rows = generations.iter().map(|one| {
        let report = |of: fn(&GenerationReport) -> String| one.report.as_ref().map(of).unwrap_or_default();
        vec![
            short(&one.generation_id).to_owned(),
            state(one),
            report(|report| count(report.item_count)),
            report(|report| format!("{:.3}", report.ann_recall_at_100)),
            one.built_ms.map(utc).unwrap_or_default(),
        ]
    });
    say(table(&header, &[2, 3], rows.collect()));
    generations.iter().flat_map(|one| notes(one)).for_each(|note| say(folded(&format!("  {note}"))));
}

/// What a person should know of a generation beside its row.
fn notes(generation: &GenerationStatus) -> Vec<String> {
    let name = short(&generation.generation_id);
    let failed = generation.report.iter().flat_map(|report| &report.failed_gates);
    let mut notes: Vec<String> = failed.map(|failure| format!("{name} failed {}", gate(failure))).collect();
    if !generation.forced_by.is_empty() {
        notes.push(format!("{name} was forced by {}", generation.forced_by));
    }
    if !generation.compacted_from.is_empty() {
        notes.push(format!("{name} was compacted from {}", short(&generation.compacted_from)));
    }
    notes
}

fn gate(GateFailure { gate, expected, found }: &GateFailure) -> String {
    format!("{gate}: expected {expected}, found {found}")
}

fn state(generation: &GenerationStatus) -> String {
    let name = match generation.state() {
        // Of an index-svc that is older than this program.
        GenerationState::Unspecified if generation.is_current => GenerationState::Current,
        GenerationState::Unspecified => GenerationState::Retained,
        state => state,
    };
    name.as_str_name().trim_start_matches("GENERATION_STATE_").to_lowercase()
}

fn as_json(generation: &GenerationStatus) -> Value {
    json!({
        "generation_id": generation.generation_id,
        "model": model_of(generation),
        "state": state(generation),
        "is_served": generation.is_served,
        "covers_lsn": generation.covers_lsn,
        "published_lsn": generation.published_lsn,
        "current_since_lsn": generation.current_since_lsn,
        "forced_by": generation.forced_by,
        "compacted_from": generation.compacted_from,
        "built_ms": generation.built_ms,
        "report": generation.report.as_ref().map(report_as_json),
    })
}

fn report_as_json(report: &GenerationReport) -> Value {
    let failure = |GateFailure { gate, expected, found }: &GateFailure| json!({ "gate": gate, "expected": expected, "found": found });
    json!({
        "item_count": report.item_count,
        "kind": kind_name(report),
        "ann_recall_at_100": report.ann_recall_at_100,
        "ann_recall_at_500": report.ann_recall_at_500,
        "query_count": report.query_count,
        "measured_with_users": report.measured_with_users,
        "mean_cosine": report.mean_cosine,
        "build_s": report.build_s,
        "failed_gates": report.failed_gates.iter().map(failure).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_a_model_stand_together_and_are_named_in_full_or_by_their_last_part() {
        let of = |id: &str| GenerationStatus {
            generation_id: id.to_owned(),
            model_version: Some(pagoda_proto::feature::v1::ModelVersion { space_id: id[..1].to_owned(), revision: 0 }),
            ..Default::default()
        };
        let listed = ["b-0-1", "a-0-2", "b-0-3"].map(of);
        let grouped: Vec<_> = by_model(&listed)
            .into_iter()
            .map(|(model, of)| (model, of.iter().map(|one| short(&one.generation_id)).collect::<Vec<_>>()))
            .collect();
        assert_eq!(grouped, [("b/0".to_owned(), vec!["1", "3"]), ("a/0".to_owned(), vec!["2"])]);
        assert_eq!(named(&listed, "2").unwrap(), named(&listed, "a-0-2").unwrap());
        assert!(named(&listed, "-2").is_err() && named(&listed, "").is_err());
    }
}
