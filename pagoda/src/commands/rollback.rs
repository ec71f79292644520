//! `pagoda rollback`: back to an older generation of the same model, or to an older model.

use anyhow::{Context, Result, anyhow, bail};
use pagoda_proto::{
    index::v1::{
        GenerationStatus, PublishGenerationRequest, RollbackGenerationRequest, index_service_client::IndexServiceClient,
    },
    user::v1::GetUserTowerStatusResponse,
};
use pagoda_registry::Kind;
use serde_json::json;
use tonic::{Code, Status};

use super::{
    evaluate::entry,
    generations::{list, named, space},
    refresh::open_registry_of_services,
    status::version,
};
use crate::{
    addresses::Addresses,
    channel::ServiceChannel,
    cli::RollbackArgs,
    clients::{Clients, SERVED_TIMEOUT, index_client},
    output::{say, say_json},
    refusal::refusal,
};

pub(crate) async fn run(args: &RollbackArgs) -> Result<()> {
    let addresses = Addresses::find(args.services.addresses.as_deref())?;
    match &args.model {
        Some(model) => to_model(args, &addresses, model).await,
        None => to_generation(args, &mut index_client(&addresses, args.services.deadline()).await?).await,
    }
}

/// Goes back within a space. What is to be current and what must be so still are both said, so that the same call twice goes back once.
async fn to_generation(args: &RollbackArgs, index: &mut IndexServiceClient<ServiceChannel>) -> Result<()> {
    let listed = list(index, false).await?;
    let (from, to) = choose(&listed, args.space.as_deref(), args.generation.as_deref())?;
    let request = RollbackGenerationRequest {
        space_id: space(to).to_owned(),
        generation_id: to.generation_id.clone(),
        expected_generation_id: Some(from.generation_id.clone()),
    };
    let lsn = index.rollback_generation(request).await.map_err(|s| refused(&s, &to.generation_id))?.into_inner().lsn;
    if args.json {
        return say_json(&json!({ "generation_id": to.generation_id, "before": from.generation_id, "lsn": lsn }));
    }
    if from.generation_id == to.generation_id {
        say(format_args!("generation {} is current already, since lsn {lsn}", to.generation_id));
        return Ok(());
    }
    say(format_args!("generation {} is current again, at lsn {lsn}", to.generation_id));
    say(format_args!("before    {}", from.generation_id));
    say(format_args!("to undo   pagoda rollback --generation {}", from.generation_id));
    Ok(())
}

/// A refusal; where it may have been done and only its reply was lost, with how to try again.
fn refused(status: &Status, id: &str) -> anyhow::Error {
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded => {
            anyhow!("{}\nto try again: pagoda rollback --generation {id}", refusal(status))
        }
        _ => refusal(status),
    }
}

/// The current generation, and the one to go back to: the one named, or the one that was published last before it.
fn choose<'a>(
    listed: &'a [GenerationStatus],
    of_space: Option<&str>,
    name: Option<&str>,
) -> Result<(&'a GenerationStatus, &'a GenerationStatus)> {
    let target = name.map(|name| named(listed, name)).transpose()?;
    let first = listed.first().context("the index holds no generation yet")?;
    let of_space = of_space.unwrap_or(space(target.unwrap_or(first)));
    let of_space_listed = listed.iter().filter(|one| space(one) == of_space);
    let from = of_space_listed.clone().find(|one| one.is_current);
    let from = from.with_context(|| format!("the index does not hold space `{of_space}`"))?;
    let before = || {
        let before = of_space_listed.filter(|one| one.published_lsn < from.published_lsn);
        before.max_by_key(|one| one.published_lsn)
    };
    let to = target.or_else(before).with_context(|| {
        format!(
            "nothing of model {} was published before generation {}, which is current\nto go back to an older model: pagoda rollback --model VERSION",
            from.model_version.as_ref().map(version).unwrap_or_default(),
            from.generation_id
        )
    })?;
    Ok((from, to))
}

/// Goes back to an older model: it is registered as the newest once more, which all services follow and later refreshes keep to, and the generation that the
/// index still holds of it is published last. Done twice it changes nothing more.
async fn to_model(args: &RollbackArgs, addresses: &Addresses, model: &str) -> Result<()> {
    let mut clients = Clients::connect(addresses, args.services.deadline()).await?;
    let registry = open_registry_of_services(addresses).await?;
    let entry = entry(&registry, Some(model)).await?;
    let before = registry.latest(Kind::Model).await?.map(|newest| newest.label).unwrap_or_default();
    registry.publish_again(&entry).await?;
    let held = held(&mut clients.index, model).await?;
    let lsn = match &held {
        Some(generation) => Some(publish(&mut clients.index, generation).await?),
        None => None,
    };
    if held.is_some() {
        until_served(&mut clients, model).await?;
    }
    if args.json {
        return say_json(&json!({ "model": model, "before": before, "generation_id": held, "lsn": lsn }));
    }
    say_model(model, &before, held.as_deref());
    Ok(())
}

fn say_model(model: &str, before: &str, held: Option<&str>) {
    let was_newest = before == model;
    say(format_args!("model {model} is the newest registered one{}", if was_newest { " already" } else { "" }));
    if !was_newest {
        say(format_args!("before    {before}\nto undo   pagoda rollback --model {before}"));
    }
    match held {
        Some(generation) => {
            say(format_args!("users are answered with it, from generation {generation}"));
            if !was_newest {
                say("what was new or changed since another took over, a refresh brings:");
                say("  pagoda refresh --full --data DIR");
            }
        }
        None => {
            say("the index holds nothing of it; users are answered with it after");
            say("  pagoda refresh --full --data DIR");
        }
    }
}

/// The current generation of a model's space, if the index holds it.
async fn held(index: &mut IndexServiceClient<ServiceChannel>, model: &str) -> Result<Option<String>> {
    let of_model = |one: &GenerationStatus| model.split('/').next() == Some(space(one)) && one.is_current;
    Ok(list(index, false).await?.into_iter().find(of_model).map(|one| one.generation_id))
}

async fn publish(index: &mut IndexServiceClient<ServiceChannel>, generation: &str) -> Result<u64> {
    let request = PublishGenerationRequest { generation_id: generation.to_owned(), ..Default::default() };
    Ok(index.publish_generation(request).await.map_err(|s| refusal(&s))?.into_inner().lsn)
}

/// Waits until user-tower-svc answers with a model.
async fn until_served(clients: &mut Clients, model: &str) -> Result<()> {
    let active = |status: &GetUserTowerStatusResponse| status.active_model.as_ref().map(version);
    if let Some(status) = clients.not_served(|status| active(status).as_deref() == Some(model)).await? {
        bail!(
            "model {model} is registered as the newest, but after {} s user-tower-svc answers with {}",
            SERVED_TIMEOUT.as_secs(),
            active(&status).as_deref().unwrap_or("none")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pagoda_proto::feature::v1::ModelVersion;

    use super::{super::generations::short, *};

    /// By space, each generation with the position of its publication, the current one first.
    fn listed(spaces: &[(&str, &[(&str, u64)])]) -> Vec<GenerationStatus> {
        let of_space = |(space, generations): &(&str, &[(&str, u64)])| {
            let model = Some(ModelVersion { space_id: (*space).to_owned(), revision: 0 });
            let one = |(n, (name, published_lsn)): (usize, &(&str, u64))| GenerationStatus {
                generation_id: format!("{space}-0-{name}"),
                model_version: model.clone(),
                published_lsn: *published_lsn,
                is_current: n == 0,
                ..Default::default()
            };
            generations.iter().enumerate().map(one).collect::<Vec<_>>()
        };
        spaces.iter().flat_map(of_space).collect()
    }

    #[test]
    fn the_way_back_is_to_what_was_published_before_or_to_what_is_named() {
        let listed = listed(&[("b", &[("b4", 4), ("b5", 5), ("b3", 3), ("b2", 2)]), ("a", &[("a1", 1)])]);
        let chosen = |space, name| {
            let (from, to) = choose(&listed, space, name)?;
            Ok::<_, anyhow::Error>((short(&from.generation_id), short(&to.generation_id)))
        };
        assert_eq!(chosen(None, None).unwrap(), ("b4", "b3"), "b5 was rolled back from");
        assert_eq!(chosen(None, Some("b5")).unwrap(), ("b4", "b5"));
        assert_eq!(chosen(None, Some("b-0-b2")).unwrap(), ("b4", "b2"));
        assert_eq!(chosen(None, Some("a1")).unwrap(), ("a1", "a1"), "of its own space");
        for (space, name, why) in [
            (Some("a"), None, "nothing of model a/0 was published before"),
            (Some("c"), None, "does not hold space `c`"),
            (None, Some("b9"), "`b9`"),
        ] {
            let error = chosen(space, name).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert!(choose(&[], None, None).unwrap_err().to_string().contains("no generation yet"));
    }
}
