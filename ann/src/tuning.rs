//! [`Tuning`]: with what parameters an index reaches which recall. Kept beside the index; older ones are read.

use serde::{Deserialize, Serialize};

use crate::Parameters;

/// The version that this program writes.
const FORMAT_VERSION: u32 = 1;
/// Over-fetching of a fast scan that was not tuned.
const OVER_FETCH_DEFAULT: u32 = 4;

/// What tuning came to: one step for each k that it had a goal for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tuning {
    /// The version of this format; 0 of one that was made of parameters alone.
    #[serde(default)]
    pub format_version: u32,
    /// How many queries it was measured with.
    #[serde(default)]
    pub query_count: usize,
    /// By ascending k.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// Where at most so many rows may be found, just those are scanned: cheaper than an index, and exact.
    #[serde(default)]
    pub scan_rows: usize,
}

/// Parameters for searches of up to k hits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The k.
    pub k: usize,
    /// The recall_at_k that was asked for, 0 to 1.
    #[serde(default)]
    pub target: f64,
    /// recall_at_k of approximate against exact search, without a filter.
    #[serde(default)]
    pub recall_at_k: f64,
    /// Whether the target was reached, with a filter too.
    #[serde(default)]
    pub reached: bool,
    /// For searches of all rows.
    pub parameters: Parameters,
    /// Fast scan: so many times k candidates are scored exactly; 0 is taken as 4.
    #[serde(default)]
    pub over_fetch: u32,
    /// Inverted lists, filtered: cells are visited as long as their centroid's score, raised by this much (for a query of length 1), reaches
    /// the k-th best hit. Without it rows that pass a filter are scanned, exactly, unless they are almost all.
    #[serde(default)]
    pub margin: Option<f32>,
    /// Graph, filtered: the least share of allowed rows that it is searched for; below, they are scanned. Without it they are, unless they are
    /// almost all.
    #[serde(default)]
    pub graph_share: Option<f32>,
    /// What was measured with filters.
    #[serde(default)]
    pub filtered: Vec<Filtered>,
}

/// What was measured with one kind of filter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Filtered {
    /// Which rows it lets pass.
    pub filter: FilterKind,
    /// Their share of all rows, 0 to 1.
    pub share: f64,
    /// recall_at_k of approximate against exact search of these rows.
    pub recall_at_k: f64,
    /// The share of all rows that an average search visited the cells of.
    pub visited: f64,
}

/// Which rows a filter lets pass, in calibration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterKind {
    /// Any rows.
    Random,
    /// Those around one of them.
    Cluster,
    /// Those that are farthest from the queries.
    Far,
    /// Those that are nearest to the queries.
    Near,
}

impl Tuning {
    pub(crate) fn new(query_count: usize, steps: Vec<Step>, scan_rows: usize) -> Self {
        Self { format_version: FORMAT_VERSION, query_count, steps, scan_rows }
    }

    /// What a search of k hits takes: between two steps the more thorough of both, beyond the last one more in proportion.
    pub fn at(&self, k: usize) -> Step {
        let after = self.steps.iter().position(|step| step.k >= k);
        match (after, self.steps.last()) {
            (_, None) => Step::default(),
            (Some(0), _) => self.steps[0].clone(),
            (Some(after), _) => self.steps[after].at_least(&self.steps[after - 1]),
            (None, Some(last)) => {
                let before = self.steps.len().checked_sub(2).map(|at| &self.steps[at]);
                before.map_or_else(|| last.clone(), |before| last.at_least(before)).stretched(k)
            }
        }
    }
}

/// Those of an index that was tuned for 100 hits before there were steps.
impl From<Parameters> for Tuning {
    fn from(parameters: Parameters) -> Self {
        let step = Step { k: 100, parameters, ..Step::default() };
        Self { format_version: 0, query_count: 0, steps: vec![step], scan_rows: 0 }
    }
}

impl Step {
    pub(crate) fn over_fetch(&self) -> usize {
        match self.over_fetch {
            0 => OVER_FETCH_DEFAULT as usize,
            times => times as usize,
        }
    }

    /// As thorough as both.
    fn at_least(&self, other: &Self) -> Self {
        let both = |a: Option<f32>, b: Option<f32>, of: fn(f32, f32) -> f32| Some(of(a?, b?));
        Self {
            parameters: self.parameters.at_least(other.parameters),
            over_fetch: self.over_fetch.max(other.over_fetch),
            margin: both(self.margin, other.margin, f32::max),
            graph_share: both(self.graph_share, other.graph_share, f32::max),
            ..self.clone()
        }
    }

    /// For more hits than it was measured for.
    fn stretched(self, k: usize) -> Self {
        let times = |n: u32| (u64::from(n) * k as u64).div_ceil(self.k.max(1) as u64).try_into().unwrap_or(u32::MAX);
        let Parameters { nprobe, ef_search } = self.parameters;
        let parameters = Parameters { nprobe: times(nprobe), ef_search: times(ef_search) };
        Self { k, parameters, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(k: usize, nprobe: u32, margin: Option<f32>) -> Step {
        Step { k, parameters: Parameters { nprobe, ef_search: 0 }, margin, ..Step::default() }
    }

    #[test]
    fn a_search_takes_the_safe_step() {
        let tuning = Tuning::new(9, vec![step(100, 60, Some(0.5)), step(500, 40, Some(0.7))], 7);
        let at = |k| (tuning.at(k).parameters.nprobe, tuning.at(k).margin);
        assert_eq!(
            [at(1), at(100), at(101), at(500), at(1000)],
            [(60, Some(0.5)), (60, Some(0.5)), (60, Some(0.7)), (60, Some(0.7)), (120, Some(0.7))]
        );
        let half = Tuning::new(9, vec![step(100, 60, None), step(500, 90, Some(0.7))], 7);
        assert_eq!((half.at(300).parameters.nprobe, half.at(300).margin), (90, None));
        assert_eq!(Tuning::default().at(10), Step::default());
    }

    #[test]
    fn what_was_written_is_read_and_so_is_what_older_programs_wrote() {
        let tuning = Tuning::new(9, vec![step(100, 60, Some(0.5))], 7);
        let json = serde_json::to_string(&tuning).unwrap();
        assert_eq!(serde_json::from_str::<Tuning>(&json).unwrap(), tuning);
        let old: Parameters = serde_json::from_str(r#"{"nprobe": 64, "ef_search": 0}"#).unwrap();
        assert_eq!((Tuning::from(old).at(500).parameters.nprobe, Tuning::from(old).at(500).margin), (320, None));
        let first = r#"{"format_version": 1, "steps": [{"k": 100, "parameters": {"nprobe": 8, "ef_search": 0}}]}"#;
        assert_eq!(serde_json::from_str::<Tuning>(first).unwrap().at(3).parameters.nprobe, 8);
    }
}
