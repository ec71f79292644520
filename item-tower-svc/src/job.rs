//! A refresh as a one-shot job: `item-tower-svc refresh`, for a CronJob or a person without a running server.

use std::{
    io::{self, Write},
    pin::pin,
    time::{Duration, Instant},
};

use futures::StreamExt;
use pagoda_server::shutdown;

use crate::{
    app::{App, AppError},
    config::Config,
    error::ItemTowerError,
    refresh::{Mode, Refresh, State, Wish},
};

/// What `--help` shows.
pub const EXAMPLES: &str = "Examples:
  item-tower-svc --set store.url=/var/lib/pagoda/store --set peers.index=http://127.0.0.1:7103
  item-tower-svc refresh --full --set store.url=/var/lib/pagoda/store
  item-tower-svc refresh --catalog 12 --config item-tower-svc.toml
  PAGODA_LISTEN__ADDRESS=0.0.0.0:7102 item-tower-svc --print-config";

/// Progress of one state is printed this often.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Embeds a catalog of the store, hands it to index-svc, and leaves: exit code 0 when the refresh succeeded.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct RefreshArgs {
    /// Embed all items into a new generation and publish it; else only what changed since the last refresh is embedded.
    #[arg(long)]
    full: bool,
    /// The catalog's version in the registry; 0 is the newest.
    #[arg(long, value_name = "VERSION", default_value_t = 0)]
    catalog: u64,
}

/// Why the job did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The parts could not be put together.
    #[error(transparent)]
    App(#[from] AppError),
    /// It could not be started, or was lost sight of.
    #[error(transparent)]
    ItemTower(#[from] ItemTowerError),
    /// It ended otherwise than well.
    #[error("{id} ended as {state:?}: {why}", id = .0.id, state = .0.state, why = .0.error.as_deref().unwrap_or_default())]
    Ended(Box<Refresh>),
}

/// Runs one refresh, printing a line for each step to standard output. A signal to stop cancels it.
pub async fn run(config: Config, args: RefreshArgs) -> Result<(), JobError> {
    let app = App::build(&config).await?;
    let mode = if args.full { Mode::Full } else { Mode::Incremental };
    let started =
        app.refreshes.start(Wish { mode, catalog_version: args.catalog, catalog_digest: String::new() }).await?;
    let id = started.id.to_string();
    let mut steps = pin!(app.refreshes.watch(&id)?);
    let mut stop = pin!(shutdown::requested(false));
    let mut stopping = false;
    let mut lines = Lines::default();
    let mut last = started;
    loop {
        tokio::select! {
            step = steps.next() => match step {
                Some(step) => {
                    lines.show(&step);
                    last = step;
                }
                None => break,
            },
            () = &mut stop, if !stopping => {
                stopping = true;
                app.refreshes.cancel(&id)?;
            }
        }
    }
    if last.state == State::Succeeded { Ok(()) } else { Err(JobError::Ended(Box::new(last))) }
}

/// Which line was printed last.
#[derive(Default)]
struct Lines(Option<(State, Instant)>);

impl Lines {
    fn show(&mut self, refresh: &Refresh) {
        let due = self.0.is_none_or(|(state, since)| state != refresh.state || since.elapsed() >= LINE_EVERY);
        if due {
            self.0 = Some((refresh.state, Instant::now()));
            say(&line(refresh));
            if refresh.state.is_end() {
                refresh.refused.first.iter().for_each(|row| say(&format!("  refused: {row}")));
                refresh.unfilterable.first.iter().for_each(|text| say(&format!("  not filterable: {text}")));
                let undeclared = refresh.undeclared.iter();
                undeclared.for_each(|name| say(&format!("  not filterable before a full refresh: `{name}`")));
            }
        }
    }
}

/// A refresh does not end because nobody reads what it says.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

fn line(refresh: &Refresh) -> String {
    let Refresh { id, state, items_embedded, items_total, items_deleted, refused, .. } = refresh;
    let seconds = refresh.elapsed().as_secs_f64();
    let generation = refresh.generation_id.iter().map(|id| format!(", generation {id}")).collect::<String>();
    let state = format!("{state:?}").to_lowercase();
    format!(
        "{id} {state}: catalog {}, model {}, {items_embedded} of {items_total} items embedded, {items_deleted} deleted, {} refused{generation}, {seconds:.1} s",
        refresh.catalog_version, refresh.model, refused.count
    )
}
