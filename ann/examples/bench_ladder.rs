//! The rung `ann` of `make bench-index`: answers requests of one line of JSON each; `bench/index_sides.py` says which.
//!
//!     bench_ladder FOLDER DIM        with the vectors of bench/index_data.py

use std::{
    error::Error,
    fs,
    io::{BufRead, Write, stdin, stdout},
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::Instant,
};

use pagoda_ann::{
    Bitmap, Goal, Index, Kind, Mask, Matrix, Parameters, Query, Spec, TuneOptions, Tuning, scan, tune_goals,
};
use rand::{SeedableRng, seq::index::sample};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use serde_json::{Value, json};

type Fault = Box<dyn Error>;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Request {
    Build { kind: Kind, file: PathBuf },
    Load { file: PathBuf },
    Tune { goals: Vec<(usize, f64)> },
    Tuned { tuning: Tuning },
    About {},
    Mask { filter: String, count: usize, file: PathBuf },
    Search(Search),
}

#[derive(Deserialize)]
struct Search {
    k: usize,
    nprobe: u32,
    first: u32,
    count: u32,
    #[serde(default)]
    mask: String,
    #[serde(default)]
    hits: String,
}

struct Ladder {
    items: Matrix,
    users: Matrix,
    tuning_users: Matrix,
    index: Option<Index>,
    tuning: Tuning,
}

fn main() -> Result<(), Fault> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("expected a folder")?);
    let dim = arguments.next().ok_or("expected a dimension")?.parse()?;
    let open = |name: &str| Matrix::open(&folder.join(name), dim);
    let (items, users, tuning_users) = (open("items.f32")?, open("users.f32")?, open("tuning.f32")?);
    let mut ladder = Ladder { items, users, tuning_users, index: None, tuning: Tuning::default() };
    for line in stdin().lock().lines() {
        let (began, cpu) = (Instant::now(), cpu_s());
        let mut answer =
            match serde_json::from_str(&line?).map_err(Fault::from).and_then(|request| ladder.answer(request)) {
                Ok(answer) => answer,
                Err(fault) => json!({"error": fault.to_string()}),
            };
        answer["wall_s"] = began.elapsed().as_secs_f64().into();
        answer["cpu_s"] = (cpu_s() - cpu).into();
        answer["memory_mib"] = status_mib("RssAnon").into();
        answer["peak_memory_mib"] = status_mib("VmHWM").into();
        writeln!(stdout(), "{answer}")?;
    }
    Ok(())
}

impl Ladder {
    fn answer(&mut self, request: Request) -> Result<Value, Fault> {
        match request {
            Request::Build { kind, file } => {
                let index = Index::build(&Spec::of_kind(kind, self.items.rows()), &self.items, 1)?;
                fs::write(file, index.write()?)?;
                Ok(json!({"nlist": index.nlist()}))
            }
            Request::Load { file } => {
                self.index = Some(Index::open(&file)?);
                Ok(json!({}))
            }
            Request::Tune { goals } => {
                let goals = goals.into_iter().map(|(k, recall_at_k)| Goal { k, recall_at_k }).collect();
                let options = TuneOptions { goals, threads: 1, ..TuneOptions::default() };
                let go_on = &mut |_| ControlFlow::Continue(());
                self.tuning = tune_goals(self.index()?, &self.items, &self.tuning_users, &options, go_on)?;
                Ok(json!({"tuning": self.tuning}))
            }
            Request::Tuned { tuning } => {
                self.tuning = tuning;
                Ok(json!({}))
            }
            Request::About {} => Ok(json!({"nlist": self.index()?.nlist()})),
            Request::Mask { filter, count, file } => {
                let words = self.mask(&filter, count)?;
                let bytes: Vec<u8> = words.words().iter().flat_map(|word| word.to_le_bytes()).collect();
                fs::write(file, &bytes[..self.items.rows().div_ceil(8)])?;
                Ok(json!({}))
            }
            Request::Search(search) => self.search(&search),
        }
    }

    fn search(&self, search: &Search) -> Result<Value, Fault> {
        let (index, allowed) = (self.index()?, self.read_mask(&search.mask)?);
        let mask = Mask { allowed: allowed.as_ref(), excluded: &[] };
        let parameters = Parameters { nprobe: search.nprobe, ef_search: 0 };
        let began = cpu_s();
        let find = |user| {
            let query = Query { vector: self.users.row(user), k: search.k, mask, parameters, ..Query::default() };
            index.find(&self.items, &self.tuning, &query)
        };
        let found: Vec<_> = (search.first..search.first + search.count).map(find).collect::<Result<_, _>>()?;
        let seconds = cpu_s() - began;
        if !search.hits.is_empty() {
            let rows = |hits: &[pagoda_ann::Hit]| {
                let found = hits.iter().map(|hit| hit.row as i32).chain(std::iter::repeat(-1));
                found.take(search.k).flat_map(i32::to_le_bytes).collect::<Vec<u8>>()
            };
            fs::write(&search.hits, found.iter().flat_map(|found| rows(&found.hits)).collect::<Vec<u8>>())?;
        }
        let visited = found.iter().map(|found| found.visited_rows).sum::<usize>() / found.len().max(1);
        let mode = found.first().map(|found| format!("{:?}", found.mode));
        Ok(json!({"search_cpu_s": seconds, "visited_rows": visited, "mode": mode}))
    }

    fn mask(&self, filter: &str, count: usize) -> Result<Bitmap, Fault> {
        let rows = self.items.rows();
        let near = |place: &[f32]| -> Result<Bitmap, Fault> {
            let hits = scan(&self.items, place, count, None)?;
            Ok(Bitmap::of(rows, hits.into_iter().map(|hit| hit.row)))
        };
        match filter {
            "random" => {
                let chosen = sample(&mut ChaCha8Rng::seed_from_u64(count as u64), rows, count);
                Ok(Bitmap::of(rows, chosen.into_iter().map(|row| row as u32)))
            }
            "cluster" => near(self.items.row(rows as u32 / 3)),
            "far" => near(&away_from(&self.users)),
            other => Err(format!("no such filter: {other}").into()),
        }
    }

    fn read_mask(&self, file: &str) -> Result<Option<Bitmap>, Fault> {
        if file.is_empty() {
            return Ok(None);
        }
        let rows = self.items.rows();
        let mut bytes = fs::read(Path::new(file))?;
        bytes.resize(rows.div_ceil(64) * 8, 0);
        let words = bytes.as_chunks::<8>().0.iter().map(|eight| u64::from_le_bytes(*eight));
        Ok(Some(Bitmap::from_words(words.collect(), rows)))
    }

    fn index(&self) -> Result<&Index, Fault> {
        self.index.as_ref().ok_or_else(|| "no index was loaded".into())
    }
}

fn away_from(users: &Matrix) -> Vec<f32> {
    let mut sum = vec![0.0; users.dim()];
    for user in users.values().chunks(users.dim()) {
        sum.iter_mut().zip(user).for_each(|(sum, value)| *sum -= value);
    }
    sum
}

/// Processor seconds of this process.
fn cpu_s() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// A line of `/proc/self/status`, in MiB.
fn status_mib(name: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).map_or(0.0, |kib| kib / 1024.0)
}
