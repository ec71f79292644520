//! The flags of `pagoda compare` and `pagoda compare-negatives`.

use std::path::PathBuf;

use clap::{Args, builder::ValueHint};

use super::{Overlays, filled};

#[derive(Debug, Args)]
#[command(after_help = "\
A recipe file is TOML. Each recipe states what it does otherwise than the others, over the --preset and --config that all \
share, and may have hard negatives mined first:

  [[recipe]]
  name = \"hard\"
  description = \"One mined negative in 500.\"
  [recipe.config.negatives]  # any settings but seed, split, evaluation, checkpoint
  hard = 0.002
  [recipe.mine]                # optional
  source = \"model\"             # of the shared settings; or \"truth\", \"none\"
  from_rank = 100
  to_rank = 500
  top = 1000

Built-in recipes:
  towers      poolings of the history, residual and cross layers, feature gate,
              losses
  negatives   those of `pagoda compare-negatives`

Examples:
  pagoda compare --recipes towers --data data --out comparison
  pagoda compare --recipes mine.toml --data data --seeds 1,2,3 --config a.toml
  pagoda compare --recipes towers --print-recipes > mine.toml")]
pub(crate) struct CompareArgs {
    /// A TOML file of recipes, or the name of built-in ones: towers or negatives
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) recipes: String,
    #[command(flatten)]
    pub(crate) runs: CompareRuns,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The built-in recipes set each source of negatives against the others: random ones, popularity, a cache, exposed but not \
clicked, hard ones of several rankers, windows and shares, and the corrections by log_q. Recipes that mine from the truth need \
data that `pagoda generate` made; on other data they are rows without a result.

Examples:
  pagoda compare-negatives --data data --out comparison
  pagoda compare-negatives --data data --only random,hard-model --seeds 1,2,3
  pagoda compare-negatives --data data --config train.toml --json
  pagoda compare-negatives --print-recipes > mine.toml
  pagoda compare-negatives --data data --recipes mine.toml

What a recipe file may hold: pagoda compare --help")]
pub(crate) struct CompareNegativesArgs {
    /// A TOML file of recipes, or the name of built-in ones
    #[arg(long, value_name = "FILE", default_value = "negatives", value_hint = ValueHint::FilePath)]
    pub(crate) recipes: String,
    #[command(flatten)]
    pub(crate) runs: CompareRuns,
}

/// What is trained, how often, and where the result goes.
#[derive(Debug, Args)]
pub(crate) struct CompareRuns {
    /// The data directory: schema.toml, items, interactions and, perhaps, users
    #[arg(long, value_name = "DIR", required_unless_present = "print_recipes", value_hint = ValueHint::DirPath)]
    pub(crate) data: Option<PathBuf>,
    /// Every recipe is trained under each of these seeds
    #[arg(long, value_name = "S,S,...", value_delimiter = ',', default_value = "1,2,3")]
    pub(crate) seeds: Vec<u64>,
    /// Only the recipes of these names
    #[arg(long, value_name = "NAME,NAME,...", value_delimiter = ',', value_parser = filled())]
    pub(crate) only: Vec<String>,
    /// What all recipes share; each is laid over it.
    #[command(flatten)]
    pub(crate) shared: Overlays,
    /// Write comparison.html and comparison.json to this directory, anew after each run
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) out: Option<PathBuf>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the recipe file and train nothing
    #[arg(long)]
    pub(crate) print_recipes: bool,
}
