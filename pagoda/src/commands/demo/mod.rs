//! `pagoda demo`: the whole system on generated data, in the order in which a person would do it by hand.

mod born;
mod latency;
mod people;
mod summary;

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result};
use pagoda_dataset::Dataset;
use pagoda_proto::{index::v1::GetIndexStatusRequest, item::v1::RefreshMode};
use pagoda_simulator::World;
use tempfile::TempDir;

use super::{generate, refresh, train, up};
use crate::{
    addresses::write_whole,
    channel::DEADLINE,
    cli::DemoArgs,
    clients::Clients,
    output::{say, table, tell},
    processes::{Plan, Processes},
    refusal::refusal,
    settings::Given,
};
use summary::Summary;

pub(crate) async fn run(args: DemoArgs) -> Result<()> {
    let mut place = Place::new(args.dir.as_deref())?;
    let done = run_in(&args, &place).await;
    if done.is_err() {
        place.keep();
    }
    done
}

async fn run_in(args: &DemoArgs, place: &Place) -> Result<()> {
    let began = Instant::now();
    let mut summary = Summary::default();
    let world = generate_data(args, place, &mut summary)?;
    train_model(place, &mut summary).await?;
    let processes = start(place, &mut summary).await?;
    // On an error the children are killed with `processes`; in order they drain.
    serve(place, &world, &processes, &mut summary).await?;
    summary.seconds.insert("total", began.elapsed().as_secs_f64());
    summary.say();
    if let Some(path) = &args.summary {
        write_whole(path, &serde_json::to_vec_pretty(&summary)?)?;
    }
    end(args.keep, place, processes).await
}

/// Where the demo works.
struct Place {
    dir: PathBuf,
    /// Removes the directory at the end, where it is a temporary one.
    temporary: Option<TempDir>,
}

impl Place {
    fn new(named: Option<&Path>) -> Result<Self> {
        let temporary =
            if named.is_none() { Some(tempfile::Builder::new().prefix("pagoda-demo-").tempdir()?) } else { None };
        let dir = named.or(temporary.as_ref().map(TempDir::path)).context("a directory was named or made")?;
        let dir = std::path::absolute(dir)?;
        std::fs::create_dir_all(dir.join("logs")).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self { dir, temporary })
    }

    /// Leaves what is there: the services' logs tell what went wrong.
    fn keep(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            tell(format_args!("what the demo made is left in {}", temporary.keep().display()));
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    fn store(&self) -> Result<String> {
        up::absolute_store(&self.dir.join("store").to_string_lossy())
    }
}

fn heading(text: &str) {
    say(format_args!("\n== {text}"));
}

fn generate_data(args: &DemoArgs, place: &Place, summary: &mut Summary) -> Result<World> {
    heading("Generate a catalog, users and an impression log from a known preference model");
    let began = Instant::now();
    let world = generate::generate(&args.size, &place.data())?;
    summary.seconds.insert("generate", began.elapsed().as_secs_f64());
    Ok(world)
}

async fn train_model(place: &Place, summary: &mut Summary) -> Result<()> {
    heading("Train a user tower and an item tower on the clicks");
    let began = Instant::now();
    let data = Dataset::open(&place.data())?;
    let registry = refresh::open_registry(&place.store()?).await?;
    let trained = train::train_and_register(&data, &registry).await?;
    summary.take_metrics(&trained.evaluation)?;
    summary.seconds.insert("train", began.elapsed().as_secs_f64());
    Ok(())
}

async fn start(place: &Place, summary: &mut Summary) -> Result<Processes> {
    heading("Start the three services");
    let began = Instant::now();
    let (store, logs) = (place.store()?, place.logs());
    let plan = Plan { store: &store, usual_ports: false, log_dir: Some(&logs), given: Given::default() };
    let processes =
        Processes::start(&plan).await.with_context(|| format!("the services' logs are in {}", logs.display()))?;
    up::say_addresses(processes.addresses());
    summary.seconds.insert("start", began.elapsed().as_secs_f64());
    Ok(processes)
}

async fn serve(place: &Place, world: &World, processes: &Processes, summary: &mut Summary) -> Result<()> {
    let mut clients = Clients::connect(processes.addresses(), DEADLINE).await?;
    let data = Dataset::open(&place.data())?;
    refresh_all(place, &data, &mut clients, summary).await?;

    heading("Recall for a few users: what they clicked, and what was recalled");
    people::show(&data, &mut clients).await?;

    heading("Let new items be born, upsert them, and recall them");
    let began = Instant::now();
    summary.born = Some(born::show(world, &mut clients).await?);
    summary.seconds.insert("born", began.elapsed().as_secs_f64());

    heading("Measure Recall's latency");
    let began = Instant::now();
    let latencies = latency::measure(&data, &clients).await?;
    summary.take_latencies(&latencies);
    say(latency::table(&latencies));
    summary.seconds.insert("latency", began.elapsed().as_secs_f64());
    Ok(())
}

async fn refresh_all(place: &Place, data: &Dataset, clients: &mut Clients, summary: &mut Summary) -> Result<()> {
    heading("Refresh: embed every item, build the index, publish it");
    let began = Instant::now();
    let registry = refresh::open_registry(&place.store()?).await?;
    let refreshed = refresh::refresh(&registry, clients, data, RefreshMode::Full).await?;
    refresh::say_end(&refreshed);
    summary.seconds.insert("refresh", began.elapsed().as_secs_f64());

    let status = clients.index.get_index_status(GetIndexStatusRequest {}).await.map_err(|s| refusal(&s))?.into_inner();
    let space = status.spaces.first().context("the index holds no generation after a refresh")?;
    let report = space.report.as_ref().context("the generation came without its report")?;
    summary.ann_recall_at_100 = Some(report.ann_recall_at_100);
    let queries = if report.measured_with_users { "real users" } else { "items" };
    say(format_args!(
        "approximate against exact search, {} {queries} as queries: recall@100 {:.3} ({})",
        report.query_count,
        report.ann_recall_at_100,
        report.kind().as_str_name().trim_start_matches("INDEX_KIND_")
    ));
    Ok(())
}

async fn end(keep: bool, place: &Place, processes: Processes) -> Result<()> {
    if keep {
        heading("The services go on running until Ctrl-C");
        up::say_addresses(processes.addresses());
        let announced = processes.addresses().announce()?;
        announced.aside().iter().for_each(say);
        say(format_args!(
            "data      {}\nstore     {}\nlogs      {}",
            place.data().display(),
            place.store()?,
            place.logs().display()
        ));
        let flag = announced.flag().map(|flag| format!(" \\\n            {flag}")).unwrap_or_default();
        say(format_args!("try       pagoda recall --user u1 --k 10 --data {}{flag}", place.data().display()));
        return up::until_told(processes).await;
    }
    processes.stop().await?;
    say("\nAll services were stopped.");
    Ok(())
}

/// A small table of two columns.
fn pairs(rows: Vec<Vec<String>>, header: [&str; 2]) -> comfy_table::Table {
    table(&header, &[1], rows)
}
