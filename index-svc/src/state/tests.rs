use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{ids::ModelVersion, item::Item, record::Expected};

fn space(n: u64) -> SpaceId {
    format!("{n:016x}").parse().unwrap()
}

fn model(n: u64) -> ModelVersion {
    ModelVersion { space: space(n), revision: 0 }
}

fn id(n: u8) -> ItemId {
    ItemId::new(&format!("i{n}")).unwrap()
}

fn generation(n: u64) -> GenerationId {
    format!("00000000000000aa-0-{n:x}").parse().unwrap()
}

fn publication(of: u64, n: u64, covers: u64) -> Publication {
    Publication { embedding_dim: 1, ..Publication::unconditional(generation(n), model(of), Lsn(covers)) }
}

fn upsert(of: u64, ids: &[u8]) -> Batch {
    let items = ids.iter().map(|n| Item::new(id(*n), vec![f32::from(*n)])).collect();
    Batch::unnamed(Write::Upsert { model: model(of), items })
}

fn delete(ids: &[u8]) -> Batch {
    Batch::unnamed(Write::Delete(ids.iter().map(|n| id(*n)).collect()))
}

fn named(name: &str, batch: Batch) -> Batch {
    Batch { request_id: Some(name.parse().unwrap()), ..batch }
}

/// Applies commits one after the other, from position 1 on.
fn fold(commits: &[Commit]) -> (State, Vec<Effect>) {
    let mut state = State::default();
    let effects = (1..).zip(commits).map(|(lsn, commit)| state.apply(Lsn(lsn), commit)).collect();
    (state, effects)
}

fn current(state: &State, of: u64) -> GenerationId {
    state.space(space(of)).unwrap().current().generation.clone()
}

#[test]
fn a_repeated_request_changes_nothing_and_says_where_it_was_applied() {
    let (state, effects) = fold(&[
        Commit::Publish(publication(1, 1, 0)),
        Commit::Writes(vec![named("r", upsert(1, &[1])), named("r", delete(&[1]))]),
        Commit::Writes(vec![delete(&[2]), named("r", delete(&[1]))]),
    ]);
    let repeated = BatchEffect::Repeated(Lsn(2));
    assert_eq!(effects[1], Effect::Writes(vec![BatchEffect::Applied(vec![]), repeated.clone()]));
    assert_eq!(effects[2], Effect::Writes(vec![BatchEffect::Applied(vec![]), repeated]));
    assert!(state.space(space(1)).unwrap().history()[&id(1)].item.is_some());
    assert_eq!(state.tombstones().len(), 1);
}

#[test]
fn a_write_to_a_space_that_is_not_held_leaves_nothing_not_even_its_name() {
    let (state, effects) = fold(&[Commit::Writes(vec![delete(&[1]), named("r", upsert(1, &[1]))])]);
    assert_eq!(effects[0], Effect::Writes(vec![BatchEffect::Applied(vec![]), BatchEffect::PassedOver]));
    assert!(state.tombstones().contains_key(&id(1)) && state.position_of(&"r".parse().unwrap()).is_none());
}

#[test]
fn of_two_publications_that_expect_the_same_one_wins_and_the_other_learns_which() {
    let expecting =
        |n, covers| Publication { expected: Expected::Generation(generation(1)), ..publication(1, n, covers) };
    let (state, effects) = fold(&[
        Commit::Publish(Publication { expected: Expected::Nothing, ..publication(1, 1, 0) }),
        Commit::Publish(expecting(2, 1)),
        Commit::Publish(expecting(3, 1)),
        Commit::Publish(Publication { expected: Expected::Nothing, ..publication(1, 4, 0) }),
    ]);
    let void = Effect::Moved(Err(Void::AnotherIsCurrent(Some((generation(2), Lsn(2))))));
    assert_eq!(effects, [Effect::Moved(Ok(())), Effect::Moved(Ok(())), void.clone(), void]);
    assert_eq!(current(&state, 1), generation(2));
}

#[test]
fn a_compaction_never_overrides_a_refresh_and_a_refresh_may_override_a_compaction() {
    let compaction =
        |n, of| Publication { expected: Expected::Generation(generation(of)), compacted: true, ..publication(1, n, 2) };
    let refresh = |n, of| Publication { expected: Expected::Generation(generation(of)), ..publication(1, n, 2) };
    let (state, effects) = fold(&[
        Commit::Publish(publication(1, 1, 0)),
        Commit::Writes(vec![upsert(1, &[1])]),
        Commit::Publish(compaction(2, 1)),
        Commit::Publish(compaction(3, 2)),
        // Began when 1 was current.
        Commit::Publish(refresh(4, 1)),
        Commit::Publish(compaction(5, 3)),
    ]);
    assert_eq!(effects[4], Effect::Moved(Ok(())));
    assert_eq!(effects[5], Effect::Moved(Err(Void::AnotherIsCurrent(Some((generation(4), Lsn(5)))))));
    // Each compacted generation took the place of its base: going back leads to the last one, which has all that the first had.
    let retained: Vec<_> = state.space(space(1)).unwrap().generations().iter().map(|g| g.generation.clone()).collect();
    assert_eq!(retained, [generation(4), generation(3)]);
}

#[test]
fn a_compaction_of_an_older_space_does_not_make_it_the_one_published_last() {
    let compaction =
        Publication { expected: Expected::Generation(generation(1)), compacted: true, ..publication(1, 2, 2) };
    let mut commits =
        vec![Commit::Publish(publication(1, 1, 0)), Commit::Publish(publication(2, 3, 0)), Commit::Publish(compaction)];
    let order = |commits: &[Commit]| fold(commits).0.spaces().iter().map(SpaceState::space).collect::<Vec<_>>();
    assert_eq!(order(&commits), [space(2), space(1)]);
    commits.push(Commit::Publish(publication(3, 4, 0)));
    assert_eq!(order(&commits), [space(3), space(2)], "the older one is no longer held");
    commits.push(Commit::Publish(publication(2, 3, 0)));
    assert_eq!(order(&commits), [space(2), space(3)], "published again");
    let (state, _) = fold(&commits);
    assert_eq!(state.floors(), BTreeMap::from([(space(1), Lsn(4)), (space(2), Lsn(0)), (space(3), Lsn(0))]));
}

#[test]
fn going_back_again_and_again_leads_further_back_and_forward_by_name() {
    let roll_back =
        |n| Commit::Rollback(Rollback { space: space(1), generation: generation(n), expected: Expected::Any });
    let mut commits: Vec<_> = (1..=3).map(|n| Commit::Publish(publication(1, n, 0))).collect();
    let previous = |commits: &[Commit]| {
        let (state, _) = fold(commits);
        state.space(space(1)).unwrap().previous().map(|g| g.generation.clone())
    };
    assert_eq!(previous(&commits), Some(generation(2)));
    commits.push(roll_back(2));
    assert_eq!(previous(&commits), Some(generation(1)));
    commits.push(roll_back(1));
    assert_eq!(previous(&commits), None);
    commits.push(roll_back(3));
    commits.push(roll_back(9));
    let (state, effects) = fold(&commits);
    assert_eq!(effects.last(), Some(&Effect::Moved(Err(Void::NotRetained))));
    assert_eq!(current(&state, 1), generation(3));
}

#[test]
fn what_every_retained_generation_contains_is_forgotten_and_what_needs_it_is_void() {
    let mut commits = vec![Commit::Publish(Publication { retained_count: 1, ..publication(1, 1, 0) })];
    commits.push(Commit::Writes(vec![upsert(1, &[1, 2])]));
    commits.push(Commit::Publish(Publication { retained_count: 1, ..publication(1, 2, 2) }));
    commits.push(Commit::Writes(vec![upsert(1, &[2])]));
    assert_eq!(fold(&commits).0.space(space(1)).unwrap().history().len(), 2);
    commits.push(Commit::Publish(Publication { retained_count: 1, ..publication(1, 3, 2) }));
    let (state, _) = fold(&commits);
    assert_eq!(state.space(space(1)).unwrap().history().keys().collect::<Vec<_>>(), [&id(2)]);
    commits.push(Commit::Publish(publication(1, 4, 1)));
    assert_eq!(fold(&commits).1.last(), Some(&Effect::Moved(Err(Void::CoversTooLittle(Lsn(2))))));
}

#[test]
fn a_space_that_was_dropped_comes_back_only_with_all_that_was_written_to_it() {
    let mut commits: Vec<_> = (1..=3).map(|n| Commit::Publish(publication(n, n, 0))).collect();
    commits.push(Commit::Publish(publication(1, 4, 2)));
    assert_eq!(fold(&commits).1.last(), Some(&Effect::Moved(Err(Void::CoversTooLittle(Lsn(3))))));
    commits.push(Commit::Publish(publication(1, 5, 3)));
    assert_eq!(fold(&commits).1.last(), Some(&Effect::Moved(Ok(()))));
}

#[test]
fn a_generation_cannot_be_published_once_it_may_be_collected() {
    let until = |n, lsn| Publication { publishable_until: Some(Lsn(lsn)), ..publication(1, n, 0) };
    let (_, effects) = fold(&[
        Commit::Publish(until(1, 1)),
        Commit::Publish(until(2, 1)),
        // Retained, hence never collected.
        Commit::Publish(until(1, 1)),
    ]);
    assert_eq!(effects, [Effect::Moved(Ok(())), Effect::Moved(Err(Void::TooOld(Lsn(1)))), Effect::Moved(Ok(()))]);
}

fn commit() -> impl Strategy<Value = Commit> {
    let ids = || prop::collection::vec(0u8..12, 1..4);
    let batch =
        prop_oneof![(1u64..4, ids()).prop_map(|(of, ids)| upsert(of, &ids)), ids().prop_map(|ids| delete(&ids)),];
    let batch = (batch, prop::option::of("[ab]")).prop_map(|(batch, request)| match request {
        Some(name) => named(&name, batch),
        None => batch,
    });
    let expected = prop_oneof![Just(Expected::Any), (0u64..6).prop_map(|n| Expected::Generation(generation(n)))];
    prop_oneof![
        5 => prop::collection::vec(batch, 1..3).prop_map(Commit::Writes),
        3 => (1u64..4, 0u64..6, 0u64..30, expected.clone(), 0usize..3, any::<bool>()).prop_map(
            |(of, n, covers, expected, retained_count, compacted)| Commit::Publish(Publication {
                expected, retained_count, compacted, ..publication(of, n + 10 * of, covers)
            })
        ),
        1 => (1u64..4, 0u64..6, expected).prop_map(|(of, n, expected)| Commit::Rollback(Rollback {
            space: space(of), generation: generation(n + 10 * of), expected,
        })),
    ]
}

/// What is living according to the rules, said plainly and slowly, from all commits that took effect: by id the position of the write that
/// is found in the delta, or none for what a base row would hold.
fn last_writes(commits: &[Commit], effects: &[Effect], of: u64) -> BTreeMap<ItemId, (Lsn, bool)> {
    let mut last = BTreeMap::new();
    for (lsn, (commit, effect)) in (1..).zip(commits.iter().zip(effects)) {
        let (Commit::Writes(batches), Effect::Writes(effects)) = (commit, effect) else { continue };
        for (batch, _) in batches.iter().zip(effects).filter(|(_, e)| matches!(e, BatchEffect::Applied(_))) {
            match &batch.write {
                Write::Upsert { model, items } if model.space == space(of) => {
                    last.extend(items.iter().map(|item| (item.id.clone(), (Lsn(lsn), true))));
                }
                Write::Upsert { .. } => {}
                Write::Delete(ids) => last.extend(ids.iter().map(|id| (id.clone(), (Lsn(lsn), false)))),
            }
        }
    }
    last
}

proptest! {
    #[test]
    fn a_checkpoint_at_any_position_leads_to_the_same_state(
        commits in prop::collection::vec(commit(), 1..40), at in any::<prop::sample::Index>(),
    ) {
        let (whole, _) = fold(&commits);
        let at = at.index(commits.len());
        let (before, _) = fold(&commits[..at]);
        let mut resumed = State::decode(before.encode()).unwrap();
        prop_assert_eq!(resumed.encode(), before.encode());
        for (lsn, commit) in (1..).zip(&commits).skip(at) {
            resumed.apply(Lsn(lsn), commit);
        }
        prop_assert_eq!(resumed.encode(), whole.encode());
    }

    #[test]
    fn every_write_after_what_a_retained_generation_covers_is_known(commits in prop::collection::vec(commit(), 1..40)) {
        let (state, effects) = fold(&commits);
        for held in state.spaces() {
            prop_assert!(held.generations().iter().all(|g| g.covers >= held.floor()));
            let covers = held.current().covers;
            let fresh = held.history().values().filter(|write| write.item.is_some() && write.lsn > covers);
            prop_assert_eq!(held.fresh_count(), fresh.count());
            let of = u64::from_str_radix(&held.space().to_string(), 16).unwrap();
            for (id, (lsn, upserted)) in last_writes(&commits, &effects, of) {
                if lsn > held.floor() {
                    let known = held.history().get(&id).map(|write| (write.lsn, write.item.is_some()));
                    let deleted_before_it_was_held = !upserted && known.is_none() && !state.tombstones().contains_key(&id);
                    prop_assert!(known == Some((lsn, upserted)) || deleted_before_it_was_held, "{id} of {of}: {known:?}, {lsn}");
                }
            }
        }
    }

    #[test]
    fn random_bytes_are_no_checkpoint_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = State::decode(bytes.into());
    }
}
