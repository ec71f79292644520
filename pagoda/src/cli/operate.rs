//! The flags of `pagoda models`, `generations`, `publish`, `rollback` and `delete`: what an operator does to the index.

use std::path::PathBuf;

use clap::{Args, builder::ValueHint};

use super::{Services, filled};

#[derive(Debug, Args)]
#[command(after_help = "\
States:
  newest  registered last; refreshes embed with it
  served  users are answered with it: the newest one whose space the index holds

A newest model that is not served waits for a refresh.

Examples:
  pagoda models
  pagoda models --store store       without services: what is registered there")]
pub(crate) struct ModelsArgs {
    /// List what this store holds and ask no services [default: the services' store]
    #[arg(long, value_name = "URL", value_hint = ValueHint::DirPath, value_parser = filled())]
    pub(crate) store: Option<String>,
    #[command(flatten)]
    pub(crate) services: Services,
    /// Print a JSON array instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
States:
  current   what its space is searched in
  retained  was current; `pagoda rollback` goes back to it
  built     stored, not published
  refused   stored; gates refuse it; `pagoda publish --force-as` publishes it
  expired   stored, too old to be published; will be collected

Commands that take a generation take its name as it is shown here, or in full.

Examples:
  pagoda generations
  pagoda generations --all          with those that were not published
  pagoda generations --all --json   with everything that was measured")]
pub(crate) struct GenerationsArgs {
    /// Also those in the store that no space retains: refused by gates, never published, or replaced long ago
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) services: Services,
    /// Print a JSON array instead of tables
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Users are answered with the newest registered model whose space the index holds;
publishing a generation of another model does not change which that is. The way
back to an older model is `pagoda rollback --model`.

Examples:
  pagoda publish 4ac21b7c90ffd2e1
  pagoda publish 4ac21b7c90ffd2e1 --force-as ada")]
pub(crate) struct PublishArgs {
    /// The generation, as `pagoda generations --all` lists it
    #[arg(value_parser = filled())]
    pub(crate) generation: String,
    /// Publish it although gates refuse it, in this name, which is logged and kept with it
    #[arg(long, value_name = "NAME", value_parser = filled())]
    pub(crate) force_as: Option<String>,
    #[command(flatten)]
    pub(crate) services: Services,
    /// Print a JSON object instead of words
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Without --model the index goes back to an older generation of the same model,
with all writes since. With it all services go back to an older model: it is
registered as the newest once more, and its generation, if the index still holds
it, is published again. Either takes seconds.

Examples:
  pagoda rollback
  pagoda rollback --generation 4ac21b7c90ffd2e1
  pagoda rollback --model 0d6b7f3a52c1e984/0")]
pub(crate) struct RollbackArgs {
    /// The space [default: the one published last]
    #[arg(long, value_name = "SPACE", value_parser = filled())]
    pub(crate) space: Option<String>,
    /// The generation, as `pagoda generations` lists it [default: the one published before the current one]
    #[arg(long, value_name = "GENERATION", conflicts_with = "space", value_parser = filled())]
    pub(crate) generation: Option<String>,
    /// The model version, `space/revision`, as `pagoda models` lists it
    #[arg(long, value_name = "VERSION", conflicts_with_all = ["space", "generation"], value_parser = filled())]
    pub(crate) model: Option<String>,
    #[command(flatten)]
    pub(crate) services: Services,
    /// Print a JSON object instead of words
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Deleted items are gone at once, from every model's generations. They stay so,
also through refreshes, until they are upserted: by UpsertItems, or by a refresh
that finds them changed, or new again after the catalog lacked them.

Examples:
  pagoda delete i17 i42
  pagoda delete --file ids.txt      one id a line")]
pub(crate) struct DeleteArgs {
    /// Ids of items
    #[arg(value_name = "ITEM_ID", required_unless_present = "file")]
    pub(crate) item_ids: Vec<String>,
    /// A text file of ids, one a line
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "item_ids")]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) services: Services,
    /// Print a JSON object instead of words
    #[arg(long)]
    pub(crate) json: bool,
}
