//! From streamed embeddings to a generation, past the gates.

use std::time::Instant;

use pagoda_ann::{Index, Kind, Matrix, Spec, tune};
use pagoda_commit_log::Lsn;

use crate::{
    config,
    error::IndexError,
    generation::{Generation, Manifest, Report},
    ids::{ItemId, ModelVersion},
};

/// At which k recall is measured and gated.
const RECALL_K: usize = 100;
/// As many queries measure recall where none are given.
const ITEM_QUERIES: usize = 200;

/// What is about to be streamed in.
#[derive(Clone, Debug)]
pub struct Header {
    /// The model that made the embeddings.
    pub model: ModelVersion,
    /// The values of an embedding.
    pub embedding_dim: usize,
    /// Items to come.
    pub item_count: u64,
    /// The log position that the catalog was read at.
    pub covers: Lsn,
    /// User embeddings to measure recall with, `[queries, embedding_dim]`; may have no rows.
    pub sample_queries: Matrix,
    /// What is to be built; absent: chosen by size.
    pub kind: Option<Kind>,
    /// Cells; 0: chosen by size.
    pub nlist: usize,
    /// Links a node; 0: the default.
    pub hnsw_m: usize,
}

/// A build that takes in items.
#[derive(Debug)]
pub struct Incoming {
    header: Header,
    ids: Vec<ItemId>,
    values: Vec<f32>,
}

impl Incoming {
    /// Begins a build.
    pub fn new(header: Header) -> Self {
        Self { header, ids: Vec::new(), values: Vec::new() }
    }

    /// The header it began with.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Takes in a batch; refuses more than were announced.
    pub fn push(&mut self, items: Vec<(ItemId, Vec<f32>)>) -> Result<(), IndexError> {
        let found = self.ids.len() + items.len();
        if found as u64 > self.header.item_count {
            return Err(refused("item_count", self.header.item_count, format!("at least {found}")));
        }
        for (id, embedding) in items {
            self.ids.push(id);
            self.values.extend_from_slice(&embedding);
        }
        Ok(())
    }

    /// Builds and measures, on the calling thread and those that the settings allow.
    pub fn finish(self, settings: &config::Build) -> Result<Generation, IndexError> {
        let began = Instant::now();
        let Self { header, ids, values } = self;
        if ids.len() as u64 != header.item_count {
            return Err(refused("item_count", header.item_count, ids.len()));
        }
        let (items, vectors) = sorted(ids, Matrix::new(header.embedding_dim, values)?)?;
        let spec = spec_of(&header, items.len());
        let index = Index::build(&spec, &vectors, config::or_cores(settings.threads))?;
        let mut report = measure(&index, &vectors, &header.sample_queries, settings.recall_at_100_target)?;
        if report.recall_at_100 < settings.recall_at_100_min {
            return Err(refused(
                "recall_at_100",
                format!("at least {}", settings.recall_at_100_min),
                report.recall_at_100,
            ));
        }
        report.build_s = began.elapsed().as_secs_f64();
        let manifest = Manifest::of_build(header.model, header.covers, header.embedding_dim, spec, report);
        Ok(Generation { manifest, index, items, vectors })
    }
}

/// Sorts by id, so that rows tie in the order of ids; refuses an id given twice.
fn sorted(ids: Vec<ItemId>, vectors: Matrix) -> Result<(Vec<ItemId>, Matrix), IndexError> {
    let mut order: Vec<u32> = (0..ids.len() as u32).collect();
    order.sort_unstable_by(|a, b| ids[*a as usize].cmp(&ids[*b as usize]));
    let items: Vec<_> = order.iter().map(|row| ids[*row as usize].clone()).collect();
    let twice: Vec<_> = items.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    if let Some(first) = twice.first() {
        return Err(refused(
            "unique_ids",
            "every id once",
            format!("{} duplicates, first `{}`", twice.len(), first[0]),
        ));
    }
    let values = order.iter().flat_map(|row| vectors.row(*row)).copied().collect();
    Ok((items, Matrix::new(vectors.dim(), values)?))
}

fn spec_of(header: &Header, rows: usize) -> Spec {
    let chosen = header.kind.map_or_else(|| Spec::for_rows(rows), |kind| Spec::of_kind(kind, rows));
    let or = |wanted, chosen| if wanted == 0 { chosen } else { wanted };
    Spec { nlist: or(header.nlist, chosen.nlist), hnsw_m: or(header.hnsw_m, chosen.hnsw_m), ..chosen }.bounded(rows)
}

fn measure(index: &Index, vectors: &Matrix, users: &Matrix, target: f64) -> Result<Report, IndexError> {
    let measured_with_users = users.rows() > 0;
    let items;
    let queries = if measured_with_users {
        users
    } else {
        items = every_nth(vectors)?;
        &items
    };
    let tuned = tune(index, vectors, queries, RECALL_K, target)?;
    Ok(Report {
        item_count: vectors.rows(),
        recall_at_100: tuned.recall_at_k,
        query_count: queries.rows(),
        measured_with_users,
        parameters: tuned.parameters,
        build_s: 0.0,
    })
}

fn every_nth(vectors: &Matrix) -> Result<Matrix, IndexError> {
    let mut some = Matrix::empty(vectors.dim());
    for row in (0..vectors.rows()).step_by(vectors.rows().div_ceil(ITEM_QUERIES).max(1)) {
        some.push(vectors.row(row as u32))?;
    }
    Ok(some)
}

fn refused(gate: &'static str, expected: impl ToString, found: impl ToString) -> IndexError {
    IndexError::GateRefused { gate, expected: expected.to_string(), found: found.to_string() }
}
