//! The command line as clap sees it. What a command does is in `commands/`.

mod compare;
mod mine;
mod operate;

use std::{path::PathBuf, time::Duration};

use clap::{
    Args, Parser, Subcommand,
    builder::{NonEmptyStringValueParser, ValueHint},
};

use crate::channel::DEADLINE;

pub(crate) use compare::{CompareArgs, CompareNegativesArgs, CompareRuns};
pub(crate) use mine::{MineArgs, MineSource, ServiceArgs};
pub(crate) use operate::{DeleteArgs, GenerationsArgs, ModelsArgs, PublishArgs, RollbackArgs};

/// Pagoda, a two-tower recall system: from a click log to a Recall answer.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 80, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  pagoda demo                    everything at once, in about ten seconds
  pagoda import movielens-csv ml-latest-small --out data
  pagoda train --data data --store store
  pagoda up --store store        in one terminal, then in another:
  pagoda refresh --full --data data
  pagoda recall --user 42 --k 10 --data data";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the whole system on generated data: train, serve, refresh, recall
    Demo(DemoArgs),
    /// Make a catalog, users and an impression log from a known preference model
    Generate(GenerateArgs),
    /// Turn a well-known public data set, or a CSV log, into a data directory
    Import(ImportArgs),
    /// Train both towers on a data directory and register the model bundle in a store
    Train(TrainArgs),
    /// Print every setting of training with its default, commented
    TrainConfig,
    /// Evaluate a registered model on a data directory, beside popularity
    Evaluate(EvaluateArgs),
    /// Mine hard negatives for training from a ranking of the catalog for each user
    Mine(MineArgs),
    /// Train the same model under several recipes and seeds, and set their figures side by side
    Compare(CompareArgs),
    /// The same of recipes for negatives: what each source of them is worth on your data
    CompareNegatives(CompareNegativesArgs),
    /// Run user-tower-svc, item-tower-svc and index-svc on this machine, in the foreground, until Ctrl-C
    Up(UpArgs),
    /// Bring a data directory's items and users to the running services
    Refresh(RefreshArgs),
    /// Recall candidates for one user from the running services
    Recall(RecallArgs),
    /// Show what the running services hold and serve
    Status(StatusArgs),
    /// List the registered models: which is the newest, which one users are answered with
    Models(ModelsArgs),
    /// List the index's generations: current, retained, and those that were not published
    Generations(GenerationsArgs),
    /// Make a generation in the store the current one of its space, if need be by force
    Publish(PublishArgs),
    /// Go back to an older generation, or to an older model
    Rollback(RollbackArgs),
    /// Delete items from the index
    Delete(DeleteArgs),
    /// Print a shell completion script
    Completions {
        /// The shell to complete for
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Leave the services running until Ctrl-C, and print their addresses
    #[arg(long)]
    pub(crate) keep: bool,
    /// Write the numbers as JSON to this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) summary: Option<PathBuf>,
    /// Work in this directory and leave everything there [default: a temporary one]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) size: SizeArgs,
}

/// How much to generate; absent values are the simulator's defaults.
#[derive(Debug, Args)]
pub(crate) struct SizeArgs {
    /// How many users
    #[arg(long, value_name = "N")]
    pub(crate) users: Option<usize>,
    /// How many items
    #[arg(long, value_name = "N")]
    pub(crate) items: Option<usize>,
    /// How many impressions, clicked or not
    #[arg(long, value_name = "N")]
    pub(crate) impressions: Option<usize>,
    /// The seed: the same seed gives the same bytes
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// The data directory to write
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) size: SizeArgs,
    /// Print a JSON object instead of words
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Formats:
  movielens-dat  a directory with ratings.dat (user::item::rating::timestamp),
                 movies.dat and, perhaps, users.dat
  movielens-csv  a directory with ratings.csv and movies.csv
  split          a directory with train.txt and test.txt,
                 `user item item ...` on each line
  sequences      a text file, `user item item ...` on each line, oldest first
  csv            one CSV file of interactions with a header: user, item,
                 timestamp and, perhaps, event or rating

Examples:
  pagoda import movielens-dat ml-1m --out data
  pagoda import csv clicks.csv --out data")]
pub(crate) struct ImportArgs {
    /// The format of what is at PATH: movielens-dat, movielens-csv, split, sequences or csv
    pub(crate) format: String,
    /// The file or directory to read
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) path: PathBuf,
    /// The data directory to write
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) out: PathBuf,
    /// Ratings from this value on are positives [default: 0.7 of the highest rating found]
    #[arg(long, value_name = "RATING")]
    pub(crate) positive_rating: Option<f64>,
    /// Replace the schema.toml of --out also where somebody edited it, or it is of other data
    #[arg(long)]
    pub(crate) replace_schema: bool,
    /// Print a JSON object instead of words
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where data and models are.
#[derive(Debug, Args)]
pub(crate) struct DataAndStore {
    /// The data directory: schema.toml, items, interactions and, perhaps, users
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) data: PathBuf,
    /// The object store: a directory, file://..., s3://bucket/prefix, az://container/prefix or gs://bucket/prefix (credentials from the environment)
    #[arg(long, value_name = "URL", env = "PAGODA_STORE__URL", value_hint = ValueHint::DirPath, value_parser = filled())]
    pub(crate) store: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Presets:
  sequences  ordered sequences, each user's last item left out: a causal
             transformer trained at every position
  implicit   implicit feedback without order, training and test given

Examples:
  pagoda train --data data --store store --report report.html
  pagoda train --data data --store store --preset sequences
  pagoda train --data data --store s3://models/shop --config train.toml --seed 7
  pagoda train --data data --store store --checkpoints run1     after a kill:
  pagoda train --data data --store store --checkpoints run1 --resume
  pagoda mine --data data --store store --out hard.parquet
  pagoda train --data data --store store --hard hard.parquet
  pagoda train-config > train.toml        every key with its default, commented")]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    pub(crate) place: DataAndStore,
    #[command(flatten)]
    pub(crate) settings: TrainSettings,
    /// Write the run's summary as JSON to this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) summary: Option<PathBuf>,
    /// Write a report for people to this file: one HTML page with curves, slices, negatives and examples
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) report: Option<PathBuf>,
    /// Write TensorBoard event files to this directory, while the run goes on
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) tensorboard: Option<PathBuf>,
    /// Keep checkpoints in this directory, so that a killed run can be resumed
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) checkpoints: Option<PathBuf>,
    /// Go on from the last checkpoint, if there is one
    #[arg(long, requires = "checkpoints")]
    pub(crate) resume: bool,
    /// Print the summary as JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is laid over the default settings of training.
#[derive(Debug, Args)]
pub(crate) struct Overlays {
    /// Settings for a known protocol: sequences or implicit; --config is laid over it
    #[arg(long, value_name = "NAME")]
    pub(crate) preset: Option<String>,
    /// A TOML file of training settings; absent keys keep their defaults
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
}

/// The same, and a seed.
#[derive(Debug, Args)]
pub(crate) struct Layers {
    #[command(flatten)]
    pub(crate) overlays: Overlays,
    /// The seed, over the config's
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,
}

/// How a model is trained.
#[derive(Debug, Args)]
pub(crate) struct TrainSettings {
    #[command(flatten)]
    pub(crate) layers: Layers,
    /// Hard negatives that `pagoda mine` wrote, over the config's
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) hard: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Give it the --preset, --config and --seed of the model's training: split, evaluation, objectives and \
seed count, and with them the figures are those of the training.

Examples:
  pagoda evaluate --data data --store store
  pagoda evaluate --data data --store store --config train.toml --seed 7")]
pub(crate) struct EvaluateArgs {
    #[command(flatten)]
    pub(crate) place: DataAndStore,
    /// The model version, `space/revision` [default: the newest registered]
    #[arg(long, value_name = "VERSION", value_parser = filled())]
    pub(crate) model: Option<String>,
    #[command(flatten)]
    pub(crate) layers: Layers,
    /// Write the summary as JSON to this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) summary: Option<PathBuf>,
    /// Print the summary as JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Ports 7101 to 7103, and 9101 to 9103 for metrics, are used where they are free,
others where they are not; `pagoda status` shows them.

`SERVICE --print-config` prints every setting of a service. What is set by
PAGODA_SECTION__KEY, in a file or by --set goes before what `up` would choose.

Examples:
  pagoda up --store store
  pagoda up --store store --set index-svc.memory.bytes_max=2147483648
  pagoda up --store store --set log.filter=debug --config settings
  pagoda up --store s3://models/shop --addresses addresses.json")]
pub(crate) struct UpArgs {
    /// The object store: a directory, file://..., s3://bucket/prefix, az://container/prefix or gs://bucket/prefix (credentials from the environment)
    #[arg(long, value_name = "URL", env = "PAGODA_STORE__URL", value_hint = ValueHint::DirPath, value_parser = filled())]
    pub(crate) store: String,
    /// Write the addresses of the services as JSON to this file, too, once they listen
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) addresses: Option<PathBuf>,
    /// Set one key of a service, or of all that have it; may be repeated
    #[arg(long, value_name = "[SERVICE.]SECTION.KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Read settings from DIR/index-svc.toml, DIR/user-tower-svc.toml and DIR/item-tower-svc.toml, as many as there are
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) config: Option<PathBuf>,
}

/// Where the running services are.
#[derive(Debug, Args)]
pub(crate) struct Services {
    /// The addresses file that `pagoda up` wrote [default: the one of this user's `pagoda up`]
    #[arg(long, value_name = "FILE", env = "PAGODA_ADDRESSES", value_hint = ValueHint::FilePath)]
    pub(crate) addresses: Option<PathBuf>,
    /// How long a service may take to answer; what loads a generation is waited for as long as the service is there
    #[arg(long, value_name = "MS", default_value_t = DEADLINE.as_millis() as u64, value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    deadline_ms: u64,
}

impl Services {
    /// How long a service may take to answer.
    pub(crate) fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pagoda refresh --full --data data   every item, into a new generation
  pagoda refresh --data data          only what is new, changed or gone since")]
pub(crate) struct RefreshArgs {
    /// The data directory
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) data: PathBuf,
    /// Embed every item into a new generation and publish it
    #[arg(long)]
    pub(crate) full: bool,
    #[command(flatten)]
    pub(crate) services: Services,
    /// Print the finished refresh as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pagoda recall --user 42 --k 10
  pagoda recall --user 42 --k 10 --data data               with titles
  pagoda recall --user new --feature region=north --feature history=17,3,99
  pagoda recall --user 42 --objective click=1 --objective buy=3
  pagoda recall --user u1 --filter 'price<20' --filter 'category!=sport'
  pagoda recall --user 42 --filter 'genre=\"Sci-Fi, new\",Drama'

An attribute can be filtered by once schema.toml says `filterable = true` of its
feature and a full refresh has run.")]
pub(crate) struct RecallArgs {
    /// The user's id; an unknown user is an ordinary user without history
    #[arg(long, value_name = "ID")]
    pub(crate) user: String,
    /// How many candidates
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) k: u32,
    /// A feature of the user, NAME=VALUE, over what the services know; lists are comma-separated; may be repeated
    #[arg(long = "feature", value_name = "NAME=VALUE")]
    pub(crate) features: Vec<String>,
    /// An item that must not be recalled; an id may contain commas, so that one flag takes one id; may be repeated
    #[arg(long = "exclude", value_name = "ITEM")]
    pub(crate) exclude: Vec<String>,
    /// Which items may be recalled: ATTRIBUTE=VALUES or ATTRIBUTE!=VALUES, comma-separated, ATTRIBUTE>=VALUE or with >, <=, <; a value in double quotes is a
    /// text whatever it looks like or contains (\" stands for a quote, \\ for a backslash); may be repeated, and all must hold
    #[arg(long = "filter", value_name = "CONDITION")]
    pub(crate) filters: Vec<String>,
    /// At most N candidates that share a value of an attribute, ATTRIBUTE=N
    #[arg(long, value_name = "ATTRIBUTE=N")]
    pub(crate) group_by: Option<String>,
    /// What an objective of the model weighs, NAME=WEIGHT; those not named weigh nothing; without any, as trained; may be repeated
    #[arg(long = "objective", value_name = "NAME=WEIGHT")]
    pub(crate) objectives: Vec<String>,
    /// Items of the user's own history may be recalled again
    #[arg(long)]
    pub(crate) include_history: bool,
    /// The data directory, to show titles and to know the kinds of --feature
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) data: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) services: Services,
    /// Print a JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) services: Services,
    /// Print a JSON object instead of tables
    #[arg(long)]
    pub(crate) json: bool,
}

/// Refuses a text of nothing: what an unset variable of a script leaves.
fn filled() -> NonEmptyStringValueParser {
    NonEmptyStringValueParser::new()
}

#[cfg(test)]
mod tests {
    use clap::{Command as ClapCommand, CommandFactory};
    use unicode_width::UnicodeWidthStr;

    use super::*;

    fn helps(command: &mut ClapCommand) -> Vec<String> {
        let mut helps = vec![command.render_help().to_string(), command.render_long_help().to_string()];
        command.get_subcommands_mut().for_each(|sub| helps.extend(self::helps(sub)));
        helps
    }

    #[test]
    fn no_line_of_help_is_wider_than_a_terminal() {
        let mut command = Cli::command();
        command.build();
        let helps = helps(&mut command);
        assert!(helps.len() > 30 && helps.iter().any(|help| help.contains("Usage: pagoda recall")), "{}", helps.len());
        let wide: Vec<_> = helps.iter().flat_map(|help| help.lines()).filter(|line| line.width() > 80).collect();
        assert!(wide.is_empty(), "{wide:#?}");
    }

    #[test]
    fn a_value_that_is_empty_is_refused() {
        let store = ["--store", ""].as_slice();
        for (line, flag) in [
            ([&["pagoda", "up"], store].concat(), "--store"),
            ([&["pagoda", "models"], store].concat(), "--store"),
            (vec!["pagoda", "publish", "g", "--force-as", ""], "--force-as"),
            (vec!["pagoda", "publish", ""], "<GENERATION>"),
            (vec!["pagoda", "rollback", "--model", ""], "--model"),
            (vec!["pagoda", "generate", "--out", ""], "--out"),
        ] {
            let error = Cli::try_parse_from(&line).unwrap_err().to_string();
            assert!(error.contains(flag) && error.contains("a value is required"), "{line:?}: {error}");
        }
    }
}
