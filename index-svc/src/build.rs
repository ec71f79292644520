//! From streamed embeddings to a generation, measured and judged by the gates.

use std::{
    ops::ControlFlow,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use pagoda_ann::{AnnError, Goal, Index, Kind, Matrix, Parameters, Spec, TuneOptions, Tuning, tune_goals};
use pagoda_commit_log::Lsn;

use crate::{
    attributes::{AttributeIndex, Columns, Declarations},
    builder::Held,
    config,
    error::IndexError,
    gates,
    generation::{Generation, Manifest, Report, Shard, shard_of},
    ids::{IdTable, ItemId, ModelVersion},
    item::{Attributes, Item},
};

/// The k of the recalls that are tuned to and reported.
const RECALL_KS: [usize; 2] = [100, 500];
/// At most as many items measure recall where no queries are given.
const ITEM_QUERIES: usize = 200;

/// What an item that came in takes beside its embedding: its id, on the heap, and its places.
const ITEM_BYTES: usize = 128;
/// What an item takes that may have attributes, and each of them: a map's node has room for eleven.
const ATTRIBUTES_BYTES: usize = 640;
const ATTRIBUTE_BYTES: usize = 96;

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
    /// The attributes that items may have.
    pub attributes: Declarations,
}

/// A build that takes in items.
#[derive(Debug)]
pub struct Incoming {
    header: Header,
    shards: Vec<Rows>,
    item_count: u64,
    held: Option<Held>,
}

/// The items of one shard, in the order in which they came.
#[derive(Debug)]
struct Rows {
    ids: Vec<ItemId>,
    values: Vec<f32>,
    attributes: Vec<Attributes>,
}

/// What was measured of one shard, or of the worst of them.
#[derive(Clone, Copy, Debug)]
struct Measured {
    recall_at_100: f64,
    recall_at_500: f64,
    query_count: usize,
    parameters: Parameters,
}

impl Incoming {
    /// Begins a build of so many shards, at least 1.
    pub fn new(header: Header, shard_count: u32) -> Self {
        // All of it at once: to grow would be to copy all that is there.
        let rows = (header.item_count as usize).div_ceil(shard_count.max(1) as usize);
        let shards = (0..shard_count.max(1)).map(|_| Rows::with_capacity(rows, header.embedding_dim)).collect();
        Self { header, shards, item_count: 0, held: None }
    }

    /// With what was reserved for it.
    pub(crate) fn within(self, held: Held) -> Self {
        Self { held: Some(held), ..self }
    }

    /// Hands what was reserved to who outlives this.
    pub(crate) fn take_held(&mut self) -> Option<Held> {
        self.held.take()
    }

    /// The header it began with.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Takes in a batch; refuses more than were announced.
    pub fn push(&mut self, items: Vec<Item>) -> Result<(), IndexError> {
        let found = self.item_count + items.len() as u64;
        if found > self.header.item_count {
            return Err(refused("item_count", self.header.item_count, format!("at least {found}")));
        }
        self.item_count = found;
        let shard_count = self.shards.len() as u32;
        for Item { id, embedding, attributes } in items {
            let rows = &mut self.shards[shard_of(&id, shard_count) as usize];
            rows.ids.push(id);
            rows.values.extend_from_slice(&embedding);
            rows.attributes.push(attributes);
        }
        Ok(())
    }

    /// Builds and measures, on the calling thread and those that the settings allow, until nobody waits for it any more: the flag says whether the
    /// caller is gone.
    ///
    /// Values that cannot be searched are refused; a generation that fails a gate says so in its manifest.
    pub fn finish(self, settings: &config::Build, gone: &AtomicBool) -> Result<Generation, IndexError> {
        let began = Instant::now();
        let Self { header, shards, item_count, .. } = self;
        if item_count != header.item_count {
            return Err(refused("item_count", header.item_count, item_count));
        }
        let spec = spec_of(&header, item_count as usize / shards.len());
        let threads = config::or_cores(settings.threads);
        let mut built = Vec::with_capacity(shards.len());
        let mut measured: Option<Measured> = None;
        for (number, rows) in (0..).zip(shards) {
            if gone.load(Ordering::Relaxed) {
                return Err(AnnError::Cancelled.into());
            }
            let mut shard = build_shard(number, rows, &spec, &header, threads)?;
            if let Some(index) = &shard.index {
                shard.tuning = tune(index, &shard.vectors, &header.sample_queries, settings, gone)?;
                let found = Measured::of(&shard.tuning);
                measured = Some(measured.map_or(found, |before| before.worst(found)));
            }
            built.push(shard);
        }
        let report = report(&header, &built, measured, began);
        let mut manifest = manifest(&header, built.len() as u32, spec, report, settings);
        manifest.tunings = built.iter().map(|shard| shard.tuning.clone()).collect();
        manifest.attribute_bytes = built.iter().map(|shard| shard.attributes.memory_bytes() as u64).collect();
        let shards = built.into_iter().map(Into::into).collect();
        Ok(Generation { manifest, shards, sample_queries: header.sample_queries })
    }
}

impl Rows {
    fn with_capacity(rows: usize, dim: usize) -> Self {
        Self {
            ids: Vec::with_capacity(rows),
            values: Vec::with_capacity(rows * dim),
            attributes: Vec::with_capacity(rows),
        }
    }
}

impl Measured {
    fn of(tuning: &Tuning) -> Self {
        let [at_100, at_500] = RECALL_KS.map(|k| tuning.at(k));
        Self {
            recall_at_100: at_100.recall_at_k,
            recall_at_500: at_500.recall_at_k,
            query_count: tuning.query_count,
            parameters: thorough(at_100.parameters, at_500.parameters),
        }
    }

    /// The lowest recalls, of the fewest queries, and the most thorough parameters of two shards.
    fn worst(self, other: Self) -> Self {
        Self {
            recall_at_100: self.recall_at_100.min(other.recall_at_100),
            recall_at_500: self.recall_at_500.min(other.recall_at_500),
            query_count: self.query_count.min(other.query_count),
            parameters: thorough(self.parameters, other.parameters),
        }
    }
}

fn thorough(one: Parameters, other: Parameters) -> Parameters {
    Parameters { nprobe: one.nprobe.max(other.nprobe), ef_search: one.ef_search.max(other.ef_search) }
}

/// About how many bytes a build takes at its peak: embeddings three times, as they came, with room to grow, and in the order of ids; the index twice,
/// Faiss's and the bytes that are searched or stored; and what else came with the items.
pub(crate) fn peak_bytes(header: &Header, shard_count: u32) -> u64 {
    let (shards, dim) = (shard_count.max(1) as usize, header.embedding_dim);
    let items = header.item_count as usize;
    let rows = items.div_ceil(shards);
    let index = shards * Index::estimate_bytes(&spec_of(header, rows), rows, dim);
    let embeddings = (items + header.sample_queries.rows()) * dim * size_of::<f32>();
    let attributes = match header.attributes.iter().count() {
        0 => 0,
        declared => ATTRIBUTES_BYTES + declared * ATTRIBUTE_BYTES,
    };
    (3 * embeddings + 2 * index + items * (ITEM_BYTES + attributes)) as u64
}

fn build_shard(number: u32, rows: Rows, spec: &Spec, header: &Header, threads: usize) -> Result<Shard, IndexError> {
    let dim = header.embedding_dim;
    let Rows { ids, values, attributes } = rows;
    let vectors = Matrix::new(dim, values)?;
    let order = order_of(&ids)?;
    let index = match ids.len() {
        0 => None,
        rows => {
            let sorted = order.iter().flat_map(|row| vectors.row(*row)).copied().collect();
            let sorted = Matrix::new(dim, sorted)?;
            Some((Index::build(&spec.bounded(rows), &sorted, threads)?, sorted))
        }
    };
    let (index, vectors) = index.map_or((None, Matrix::empty(dim)), |(index, vectors)| (Some(index), vectors));
    let items = IdTable::new(order.iter().map(|row| ids[*row as usize].as_str()));
    let items = items.map_err(|e| IndexError::Internal(e.to_string()))?;
    let mut columns = Columns::new(&header.attributes);
    order.iter().for_each(|row| columns.push(&attributes[*row as usize]));
    Ok(Shard { number, index, tuning: Tuning::default(), items, vectors, attributes: AttributeIndex::new(columns) })
}

/// The rows in the order of their ids, so that rows tie as ids do; refuses an id given twice.
fn order_of(ids: &[ItemId]) -> Result<Vec<u32>, IndexError> {
    let id = |row: &u32| &ids[*row as usize];
    let mut order: Vec<u32> = (0..ids.len() as u32).collect();
    order.sort_unstable_by(|a, b| id(a).cmp(id(b)));
    let mut twice = order.windows(2).filter(|pair| id(&pair[0]) == id(&pair[1])).map(|pair| id(&pair[0]));
    if let Some(first) = twice.next() {
        let found = format!("{} duplicates, first `{first}`", 1 + twice.count());
        return Err(refused("unique_ids", "every id once", found));
    }
    Ok(order)
}

fn spec_of(header: &Header, rows: usize) -> Spec {
    let chosen = header.kind.map_or_else(|| Spec::for_rows(rows), |kind| Spec::of_kind(kind, rows));
    let or = |wanted, chosen| if wanted == 0 { chosen } else { wanted };
    Spec { nlist: or(header.nlist, chosen.nlist), hnsw_m: or(header.hnsw_m, chosen.hnsw_m), ..chosen }.bounded(rows)
}

/// Tunes to both targets with the queries given, or with some of the items.
fn tune(
    index: &Index,
    vectors: &Matrix,
    users: &Matrix,
    settings: &config::Build,
    gone: &AtomicBool,
) -> Result<Tuning, IndexError> {
    let items;
    let queries = if users.rows() > 0 {
        users
    } else {
        items = every_nth(vectors)?;
        &items
    };
    let targets = [(RECALL_KS[0], settings.recall_at_100_target), (RECALL_KS[1], settings.recall_at_500_target)];
    let goals = targets.map(|(k, recall_at_k)| Goal { k, recall_at_k }).to_vec();
    let options = TuneOptions { goals, threads: config::or_cores(settings.threads), ..TuneOptions::default() };
    let mut go_on = |_| if gone.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    Ok(tune_goals(index, vectors, queries, &options, &mut go_on)?)
}

fn every_nth(vectors: &Matrix) -> Result<Matrix, IndexError> {
    let mut some = Matrix::empty(vectors.dim());
    for row in (0..vectors.rows()).step_by(vectors.rows().div_ceil(ITEM_QUERIES).max(1)) {
        some.push(vectors.row(row as u32))?;
    }
    Ok(some)
}

fn report(header: &Header, shards: &[Shard], measured: Option<Measured>, began: Instant) -> Report {
    // Collapse shows in any one shard: ids are no property of embeddings.
    let mean_cosine = shards.iter().filter_map(|shard| gates::mean_cosine(&shard.vectors)).reduce(f64::max);
    Report {
        item_count: header.item_count as usize,
        recall_at_100: measured.map_or(1.0, |measured| measured.recall_at_100),
        recall_at_500: measured.map(|measured| measured.recall_at_500),
        query_count: measured.map_or(0, |measured| measured.query_count),
        measured_with_users: header.sample_queries.rows() > 0,
        parameters: measured.map(|measured| measured.parameters).unwrap_or_default(),
        mean_cosine,
        build_s: began.elapsed().as_secs_f64(),
    }
}

fn manifest(header: &Header, shard_count: u32, spec: Spec, report: Report, settings: &config::Build) -> Manifest {
    let failed_gates = gates::failed_by_itself(&report, settings);
    Manifest { failed_gates, ..Manifest::of_build(header, shard_count, spec, report) }
}

fn refused(gate: &'static str, expected: impl ToString, found: impl ToString) -> IndexError {
    IndexError::GateRefused(vec![gates::failure(gate, expected, found)])
}
