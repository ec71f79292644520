//! [`Findings`]: what the runs so far came to, as the report that is printed and written.

use std::time::SystemTime;

use pagoda_trainer::{
    Metrics, Trained,
    report::{ComparisonReport, Recipe as Reported, SourceRow},
};

use super::recipes::Recipe;

/// What is compared, the one to judge by first.
const METRICS: [&str; 4] = ["recall_at_20", "recall_at_100", "recall_at_500", "ndcg_at_100"];

/// Runs by recipe and seed, as far as they were made.
pub(super) struct Findings<'a> {
    pub(super) title: String,
    /// The shared settings, as TOML.
    pub(super) config_toml: String,
    pub(super) seeds: &'a [u64],
    pub(super) recipes: &'a [Recipe],
    /// `[recipes][seeds made]`
    pub(super) runs: Vec<Vec<Run>>,
}

/// A recipe under a seed.
pub(super) struct Run {
    /// Of training and evaluation.
    pub(super) seconds: f64,
    /// What came of it, or why nothing did.
    pub(super) result: Result<Outcome, String>,
}

/// What is kept of a model.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) metrics: Metrics,
    pub(super) popularity: Metrics,
    pub(super) negatives: Vec<SourceRow>,
    pub(super) warnings: Vec<String>,
}

impl Outcome {
    pub(super) fn new(trained: Trained) -> Self {
        let evaluation = trained.summary.evaluation;
        Self {
            metrics: evaluation.metrics,
            popularity: evaluation.popularity,
            negatives: trained.report.negatives,
            warnings: evaluation.warnings,
        }
    }
}

impl Findings<'_> {
    /// What there is to say so far.
    pub(super) fn report(&self) -> ComparisonReport {
        ComparisonReport {
            title: self.title.clone(),
            created: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            seeds: self.seeds.to_vec(),
            metrics: METRICS.map(str::to_owned).to_vec(),
            recipes: self.recipes.iter().zip(&self.runs).map(|(recipe, runs)| self.reported(recipe, runs)).collect(),
            popularity: self.outcomes().next().map(|(_, outcome)| outcome.popularity.clone()).unwrap_or_default(),
            config_toml: self.config_toml.clone(),
            warnings: self.warnings(),
        }
    }

    /// Whether no run has a result.
    pub(super) fn all_failed(&self) -> bool {
        self.outcomes().next().is_none()
    }

    fn outcomes(&self) -> impl Iterator<Item = (&Recipe, &Outcome)> {
        let runs = self.recipes.iter().zip(&self.runs);
        runs.flat_map(|(recipe, runs)| runs.iter().filter_map(move |run| Some((recipe, run.result.as_ref().ok()?))))
    }

    fn reported(&self, recipe: &Recipe, runs: &[Run]) -> Reported {
        let outcomes: Vec<Option<&Outcome>> = runs.iter().map(|run| run.result.as_ref().ok()).collect();
        let names = outcomes.iter().flatten().flat_map(|outcome| outcome.metrics.keys());
        let figure = |outcome: &Option<&Outcome>, name: &String| {
            outcome.and_then(|outcome| outcome.metrics.get(name)).copied().unwrap_or(f64::NAN)
        };
        let figures = |name: &String| (name.clone(), outcomes.iter().map(|outcome| figure(outcome, name)).collect());
        let failed = runs.iter().zip(self.seeds).filter_map(|(run, seed)| Some((run.result.as_ref().err()?, seed)));
        Reported {
            name: recipe.name.clone(),
            description: recipe.description.clone(),
            config_toml: recipe.overlay.clone(),
            figures: names.map(figures).collect(),
            negatives: outcomes.iter().flatten().next().map(|outcome| outcome.negatives.clone()).unwrap_or_default(),
            seconds: runs.iter().map(|run| run.seconds).collect(),
            failures: failed.map(|(why, seed)| format!("seed {seed}: {why}")).collect(),
        }
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = Vec::new();
        for warning in self.outcomes().flat_map(|(_, outcome)| &outcome.warnings) {
            if !warnings.contains(warning) {
                warnings.push(warning.clone());
            }
        }
        if let [seed] = self.seeds {
            warnings.push(format!("there is one seed, {seed}: whether a difference is chance, it does not show"));
        }
        warnings.extend(self.sources_without_any());
        warnings
    }

    /// Shares that nothing was there for.
    fn sources_without_any(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (recipe, outcome) in self.outcomes() {
            for row in outcome.negatives.iter().filter(|row| row.target_share > 0.0 && row.realised_share <= 0.0) {
                let warning =
                    format!("recipe {}: the data has no negatives of its source `{}`", recipe.name, row.source);
                if !found.contains(&warning) {
                    found.push(warning);
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::{super::recipes, *};

    fn outcome(recall: f64) -> Run {
        let metrics = Metrics::from([("recall_at_20".to_owned(), recall)]);
        let row = |source: &str, realised_share| SourceRow {
            source: source.into(),
            target_share: 0.5,
            realised_share,
            ..SourceRow::default()
        };
        let negatives = vec![row("uniform", 1.0), row("exposed", 0.0)];
        let outcome = Outcome { popularity: metrics.clone(), metrics, negatives, warnings: vec!["few queries".into()] };
        Run { seconds: 2.0, result: Ok(outcome) }
    }

    fn failure() -> Run {
        Run { seconds: 1.0, result: Err("training diverged".into()) }
    }

    #[test]
    fn a_failed_run_is_told_of_and_counts_for_nothing() {
        let recipes = recipes::read("[[recipe]]\nname = \"a\"\n[[recipe]]\nname = \"b\"", &[]).unwrap();
        let runs = vec![vec![outcome(0.25), failure(), outcome(0.75)], vec![failure(), failure(), failure()]];
        let findings =
            Findings { title: "t".into(), config_toml: String::new(), seeds: &[4, 5, 6], recipes: &recipes, runs };
        assert!(!findings.all_failed());
        let report = findings.report();
        let [a, b] = &report.recipes[..] else { panic!("two recipes") };
        assert_eq!((a.spread("recall_at_20").unwrap().mean, a.figures["recall_at_20"].len()), (0.5, 3));
        assert!(a.figures["recall_at_20"][1].is_nan());
        assert_eq!(
            (&a.failures[..], &a.seconds[..]),
            (&["seed 5: training diverged".to_owned()][..], &[2.0, 1.0, 2.0][..])
        );
        assert!(b.figures.is_empty() && b.failures.len() == 3 && b.negatives.is_empty());
        let warnings = report.warnings.join("\n");
        assert_eq!(warnings.matches("few queries").count(), 1, "{warnings}");
        assert_eq!(warnings.matches("recipe a: the data has no negatives of its source `exposed`").count(), 1);
        assert_eq!(report.popularity["recall_at_20"], 0.25);
    }
}
