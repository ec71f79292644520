//! The flags of `pagoda mine`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, builder::ValueHint};

use super::{Layers, filled};

/// Who ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MineSource {
    /// A registered model, exactly over the whole catalog; needs --store
    Model,
    /// A file of a ranker's scores; needs --scores
    Scores,
    /// A ranking service (pagoda.ranking.v1); needs --ranker
    Service,
    /// The true preferences of generated data
    Truth,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Of the --top items of each user's ranking, those at the ranks --from-rank to --to-rank are taken, both included, \
counted from 1. Items that the user has a positive with in the training part are left out; the test part is not looked at. The file's \
columns are user_id, item_id, rank, score, source and version. Which part is training, the settings say: give it the --preset, --config \
and --seed of `pagoda train`.

Examples:
  pagoda mine --data data --store store --out hard.parquet
  pagoda mine --data data --source scores --scores scores.csv --out hard.parquet
  pagoda mine --data data --source service --ranker http://ranker:9000 \\
    --out hard.parquet
  pagoda mine --data data --source truth --from-rank 20 --to-rank 100 \\
    --out hard.parquet")]
pub(crate) struct MineArgs {
    /// The data directory: schema.toml, items, interactions and, perhaps, users
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) data: PathBuf,
    /// The Parquet file to write
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) out: PathBuf,
    /// Who ranks
    #[arg(long, value_enum, default_value_t = MineSource::Model)]
    pub(crate) source: MineSource,
    /// Of --source model: the object store, a directory, file://..., s3://bucket/prefix, az://container/prefix or gs://bucket/prefix (credentials from the environment)
    #[arg(long, value_name = "URL", env = "PAGODA_STORE__URL", value_hint = ValueHint::DirPath, value_parser = filled())]
    pub(crate) store: Option<String>,
    /// Of --source model: the model version, `space/revision` [default: the newest registered]
    #[arg(long, value_name = "VERSION", value_parser = filled())]
    pub(crate) model: Option<String>,
    /// Of --source scores: a Parquet, CSV or JSONL file with the columns user, item and score
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) scores: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) service: ServiceArgs,
    /// Of --source truth: the seed of the world [default: the one that `pagoda generate` noted in world.toml]
    #[arg(long, value_name = "S")]
    pub(crate) world_seed: Option<u64>,
    /// How many of the best items are asked of the ranker
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) top: usize,
    /// The first rank that is taken; 1 is the best
    #[arg(long, value_name = "A", default_value_t = 100)]
    pub(crate) from_rank: usize,
    /// The last rank that is taken
    #[arg(long, value_name = "B", default_value_t = 500)]
    pub(crate) to_rank: usize,
    /// Rank for this time, in seconds since 1970: users did what they did before it [default: the end of the training part]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) as_of: Option<i64>,
    /// With --as-of: leave out items that turn positive within so many days from then [default: ever in the training part]
    #[arg(long, value_name = "DAYS", requires = "as_of")]
    pub(crate) positive_within: Option<u32>,
    /// Mine for at most so many users, drawn by the seed [default: all with training positives]
    #[arg(long, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub(crate) users_max: Option<usize>,
    #[command(flatten)]
    pub(crate) layers: Layers,
    /// Print the summary as JSON instead of words
    #[arg(long)]
    pub(crate) json: bool,
}

/// How a ranking service is asked.
#[derive(Debug, Args)]
pub(crate) struct ServiceArgs {
    /// Of --source service: where it listens, http://HOST:PORT
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub(crate) ranker: Option<String>,
    /// Of --source service: send the catalog's ids to be scored, for a ranker that knows no catalog of its own
    #[arg(long)]
    pub(crate) send_items: bool,
    /// Of --source service: how many users a call asks about, 1 to 256
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) batch_users: u16,
    /// Of --source service: how long a call may take
    #[arg(long, value_name = "MS", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) deadline_ms: u64,
}
