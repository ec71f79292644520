//! `pagoda recall`: candidates for one user.

mod filter;
mod flags;

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use pagoda_dataset::{Dataset, Limits};
use pagoda_model::schema::FeatureKind;
use pagoda_proto::{
    feature::v1::{Entity, FeatureValue, FloatList, TextList, feature_value::Value},
    recall::v1::{Candidate, CandidateSource, RecallRequest, RecallResponse},
};
use serde_json::json;

use super::status::version;
use crate::{
    addresses::Addresses,
    cli::RecallArgs,
    clients::recall_client,
    output::{say, say_json, table, table_of_lines},
    refusal::refusal_of,
};

pub(crate) async fn run(args: &RecallArgs) -> Result<()> {
    let data = args.data.as_deref().map(Dataset::open).transpose()?;
    let request = RecallRequest {
        user: Some(Entity { id: args.user.clone(), features: features(&args.features, data.as_ref())? }),
        k: args.k,
        exclude_item_ids: args.exclude.clone(),
        include_history: args.include_history,
        objective_weights: objective_weights(&args.objectives)?,
        filter: filter::filter(&args.filters)?,
        group_by: args.group_by.as_deref().map(filter::group_limit).transpose()?,
    };
    let titles = data.as_ref().map(titles).transpose()?.unwrap_or_default();
    let addresses = Addresses::find(args.services.addresses.as_deref())?;
    let conditions = request.filter.clone().unwrap_or_default().all;
    let mut recall = recall_client(&addresses, args.services.deadline()).await?;
    let called = |path: &str| flags::flag(path, args, &conditions);
    let reply = recall.recall(request).await.map_err(|s| refusal_of(&s, called))?.into_inner();
    if args.json {
        return say_json(&as_json(&args.user, &reply, &titles));
    }
    say_reply(&args.user, &reply, &titles);
    Ok(())
}

/// Titles by item id; items without one are absent.
pub(crate) fn titles(data: &Dataset) -> Result<HashMap<String, String>> {
    let items = data.read_items(&Limits::default())?;
    let named = items.entities.into_iter().zip(items.titles);
    Ok(named.filter_map(|(item, title)| title.map(|title| (item.id, title))).collect())
}

fn say_reply(user: &str, reply: &RecallResponse, titles: &HashMap<String, String>) {
    say(candidates_table(&reply.candidates, titles));
    let known = match (reply.user_known, reply.history_length) {
        (true, n) => format!("known, {n} items of history used"),
        (false, 0) => "unknown, no history".into(),
        (false, n) => format!("unknown, {n} items of history given"),
    };
    say(format_args!("user {user}: {known}"));
    let index = reply.index_version.clone().unwrap_or_default();
    say(format_args!("model {}", reply.model_version.as_ref().map(version).unwrap_or_default()));
    say(format_args!("generation {}, at lsn {}", index.generation_id, index.lsn));
    if reply.exhausted && reply.candidates.is_empty() {
        say("no item may be recalled: none passes the filter, or all that do are excluded");
    } else if reply.exhausted {
        say("no further item may be recalled");
    }
}

/// The candidates, with titles where there are any.
pub(crate) fn candidates_table(candidates: &[Candidate], titles: &HashMap<String, String>) -> comfy_table::Table {
    let rows = candidates.iter().enumerate().map(|(i, c)| {
        let mut row = vec![(i + 1).to_string(), c.item_id.clone(), format!("{:.4}", c.score), source(c).into()];
        if !titles.is_empty() {
            row.push(titles.get(&c.item_id).cloned().unwrap_or_default());
        }
        row
    });
    let header = ["rank", "item", "score", "source", "title"];
    let numbers = [0, 2];
    if titles.is_empty() {
        return table(&header[..4], &numbers, rows.collect());
    }
    table_of_lines(&header, &numbers, rows.collect())
}

fn source(candidate: &Candidate) -> &'static str {
    match candidate.source() {
        CandidateSource::Base => "base",
        CandidateSource::Delta => "delta",
        CandidateSource::Unspecified => "",
    }
}

fn as_json(user: &str, reply: &RecallResponse, titles: &HashMap<String, String>) -> serde_json::Value {
    let candidates = reply.candidates.iter().enumerate().map(|(i, c)| {
        json!({ "rank": i + 1, "item_id": c.item_id, "score": c.score, "source": source(c), "title": titles.get(&c.item_id) })
    });
    json!({
        "user_id": user,
        "user_known": reply.user_known,
        "history_length": reply.history_length,
        "model_version": reply.model_version.as_ref().map(version),
        "generation_id": reply.index_version.as_ref().map(|v| &v.generation_id),
        "lsn": reply.index_version.as_ref().map(|v| v.lsn),
        "exhausted": reply.exhausted,
        "candidates": candidates.collect::<Vec<_>>(),
    })
}

/// `--objective NAME=WEIGHT`; the service says which weights and names are good.
fn objective_weights(given: &[String]) -> Result<HashMap<String, f32>> {
    let mut weights = HashMap::new();
    for pair in given {
        let (name, text) = pair.split_once('=').with_context(|| format!("--objective {pair}: expected NAME=WEIGHT"))?;
        let weight = text.parse().with_context(|| format!("--objective {name}: expected a number, found `{text}`"))?;
        if weights.insert(name.to_owned(), weight).is_some() {
            bail!("--objective {name}: is given twice");
        }
    }
    Ok(weights)
}

/// `--feature NAME=VALUE` by the schema's kinds; without a data directory the shape of the value decides.
fn features(given: &[String], data: Option<&Dataset>) -> Result<HashMap<String, FeatureValue>> {
    let mut features = HashMap::new();
    for pair in given {
        let (name, text) = pair.split_once('=').with_context(|| format!("--feature {pair}: expected NAME=VALUE"))?;
        let declared = data.and_then(|d| d.schema().user.features.iter().find(|f| f.name == name));
        if data.is_some() && declared.is_none() {
            bail!("--feature {name}: the schema has no such user feature");
        }
        let value = parse(text, declared.map(|f| &f.kind)).with_context(|| format!("--feature {name}"))?;
        features.insert(name.to_owned(), FeatureValue { value: Some(value) });
    }
    Ok(features)
}

fn parse(text: &str, kind: Option<&FeatureKind>) -> Result<Value> {
    let list = || TextList { values: text.split(',').filter(|t| !t.is_empty()).map(str::to_owned).collect() };
    let number = |text: &str| text.parse().with_context(|| format!("expected a number, found `{text}`"));
    Ok(match kind {
        Some(FeatureKind::CategoricalList | FeatureKind::Sequence { .. }) => Value::Texts(list()),
        Some(FeatureKind::Numeric { .. }) => Value::Number(number(text)?),
        Some(FeatureKind::Dense { .. }) => {
            let values = text.split(',').map(|t| number(t).map(|x: f64| x as f32)).collect::<Result<_>>()?;
            Value::Floats(FloatList { values })
        }
        Some(_) => Value::Text(text.to_owned()),
        None if text.contains(',') => Value::Texts(list()),
        None => text.parse().map_or_else(|_| Value::Text(text.to_owned()), Value::Number),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_parsed_by_their_kind() {
        assert_eq!(parse("7", Some(&FeatureKind::Categorical)).unwrap(), Value::Text("7".into()));
        let history = Some(FeatureKind::Sequence { max_length: 5 });
        assert_eq!(parse("7", history.as_ref()).unwrap(), Value::Texts(TextList { values: vec!["7".into()] }));
        assert_eq!(parse("7", None).unwrap(), Value::Number(7.0));
        assert!(parse("a", Some(&FeatureKind::Dense { dim: 1 })).unwrap_err().to_string().contains("`a`"));
    }

    #[test]
    fn a_pair_without_a_name_is_refused() {
        assert!(features(&["region".into()], None).unwrap_err().to_string().contains("NAME=VALUE"));
    }

    #[test]
    fn objectives_are_pairs_of_a_name_and_a_number() {
        let parse = |given: &[&str]| objective_weights(&given.iter().map(|g| (*g).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            parse(&["click=1", "buy=2.5"]).unwrap(),
            HashMap::from([("click".into(), 1.0), ("buy".into(), 2.5)])
        );
        for (bad, named) in [(&["click"][..], "NAME=WEIGHT"), (&["click=a"], "`a`"), (&["click=1", "click=2"], "twice")]
        {
            assert!(parse(bad).unwrap_err().to_string().contains(named), "{bad:?}");
        }
    }
}
