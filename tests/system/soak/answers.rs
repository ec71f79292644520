//! [`Answers`]: what one fixed set of queries finds, exactly and approximately.

use pagoda_proto::index::v1::{BatchSearchRequest, SearchParameters, SearchResult};
use tonic::Status;

use super::{cluster::Target, world::World};
use crate::index_calls::{SPACE, embedding, until_answered};

const QUERIES: usize = 40;
const K: u32 = 20;
const NPROBE: u32 = 2;

/// An item and the bits of its score.
type Found = Vec<(String, u32)>;

/// What the queries find with one generation. Equal only if ids and scores are, bit for bit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answers {
    pub(super) generation: String,
    pub(super) exact: Vec<Found>,
    /// As the generation is tuned.
    pub(super) tuned: Vec<Found>,
    /// With so few cells visited that much is missed.
    pub(super) narrow: Vec<Found>,
}

enum How {
    Exact,
    Tuned,
    Nprobe(u32),
}

/// The answers of every process, which are the same, once all search this generation at the last acknowledged position.
pub(super) async fn of_all(world: &World, generation: &str) -> Answers {
    let head = world.journal().head();
    let mut answers: Option<Answers> = None;
    for target in world.cluster.targets() {
        let own = of_one(&target, generation, head).await;
        let first = answers.get_or_insert_with(|| own.clone());
        assert_eq!(*first, own, "process {} answers otherwise", target.number);
    }
    answers.unwrap()
}

async fn of_one(target: &Target, generation: &str, head: u64) -> Answers {
    let ask = async |how| ask(target, (generation, head), how).await;
    Answers {
        generation: generation.to_owned(),
        exact: ask(How::Exact).await,
        tuned: ask(How::Tuned).await,
        narrow: ask(How::Nprobe(NPROBE)).await,
    }
}

async fn ask(target: &Target, (generation, min_lsn): (&str, u64), how: How) -> Vec<Found> {
    let nprobe = if let How::Nprobe(nprobe) = how { nprobe } else { 0 };
    let request = BatchSearchRequest {
        space_id: SPACE.into(),
        embeddings: (0..QUERIES).map(|number| embedding(&format!("query {number}"))).collect(),
        k: K,
        exact: matches!(how, How::Exact),
        parameters: Some(SearchParameters { nprobe, ef_search: 0 }),
        min_lsn,
        ..Default::default()
    };
    let mut index = target.index.clone();
    let reply = until_answered(async || {
        let reply = index.batch_search(request.clone()).await?.into_inner();
        // One that follows loads a generation in the background, and answers from the one before until then.
        if reply.generation_id == generation { Ok(reply) } else { Err(Status::unavailable(reply.generation_id)) }
    });
    let reply = reply.await;
    assert!(reply.lsn >= min_lsn, "process {} answers at {}, asked for {min_lsn}", target.number, reply.lsn);
    reply.results.into_iter().map(found).collect()
}

fn found(result: SearchResult) -> Found {
    assert_eq!(result.items.len(), K as usize);
    result.items.into_iter().map(|item| (item.item_id, item.score.to_bits())).collect()
}
