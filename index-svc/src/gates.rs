//! What a generation has to pass before it is published, each gate with its numbers.

use pagoda_ann::Matrix;

use crate::{
    config,
    generation::{GateFailure, Report},
    ids::SpaceId,
    snapshot::HeldSpace,
};

/// Fewer items than this may well be all alike.
const COLLAPSE_ITEMS_MIN: usize = 100;
/// So many items are compared with one another.
const COLLAPSE_SAMPLE: usize = 2000;

/// A failure with its numbers.
pub(crate) fn failure(gate: &str, expected: impl ToString, found: impl ToString) -> GateFailure {
    GateFailure { gate: gate.to_owned(), expected: expected.to_string(), found: found.to_string() }
}

/// The gates that refuse what was built, as far as that can be told from itself: recall and collapse.
pub(crate) fn failed_by_itself(report: &Report, settings: &config::Build) -> Vec<GateFailure> {
    let mut failed = Vec::new();
    let recalls = [
        ("recall_at_100", Some(report.recall_at_100), settings.recall_at_100_min),
        ("recall_at_500", report.recall_at_500, settings.recall_at_500_min),
    ];
    for (gate, found, least) in recalls {
        // Not-a-number passes no gate.
        failed.extend(
            found
                .filter(|found| found.is_nan() || *found < least)
                .map(|found| failure(gate, format!("at least {least}"), format!("{found:.4}"))),
        );
    }
    if report.item_count >= COLLAPSE_ITEMS_MIN {
        let most = settings.mean_cosine_max;
        let collapsed = report.mean_cosine.filter(|found| found.is_nan() || *found > most);
        failed.extend(collapsed.map(|found| {
            failure("mean_cosine", format!("at most {most}, else the vectors are all alike"), format!("{found:.4}"))
        }));
    }
    failed
}

/// How many items are searched that a generation of a space is compared with: in the same space or, for its first generation, in the one published last.
pub(crate) fn current_count(space: SpaceId, held: &[HeldSpace]) -> usize {
    let current = held.iter().find(|held| held.space() == space).or(held.first());
    current.map_or(0, HeldSpace::item_count)
}

/// The gate on the number of items: of so many when it was built, those that would be searched, beside those that are current.
pub(crate) fn too_few(items: usize, built: usize, current: usize, ratio_min: f64) -> Option<GateFailure> {
    let least = (current as f64 * ratio_min).ceil() as usize;
    (items < least).then(|| {
        let ratio = items as f64 / current.max(1) as f64;
        let when_built = if items == built { String::new() } else { format!(" ({built} when it was built)") };
        failure(
            "item_count_ratio",
            format!("at least {ratio_min} of the {current} items that are current"),
            format!("{items} items{when_built}, {ratio:.4}"),
        )
    })
}

/// The mean cosine of pairs of different rows, of rows of norm 1: from the norm of their sum, since the squared norm counts every pair. None for fewer
/// than two rows.
pub(crate) fn mean_cosine(rows: &Matrix) -> Option<f64> {
    let stride = rows.rows().div_ceil(COLLAPSE_SAMPLE).max(1);
    let sample: Vec<_> = (0..rows.rows()).step_by(stride).map(|row| rows.row(row as u32)).collect();
    let count = sample.len() as f64;
    let mut sum = vec![0.0f64; rows.dim()];
    let mut squares = 0.0;
    for row in &sample {
        sum.iter_mut().zip(*row).for_each(|(sum, value)| *sum += f64::from(*value));
        squares += row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
    }
    let all_pairs: f64 = sum.iter().map(|value| value * value).sum();
    (sample.len() > 1).then(|| (all_pairs - squares) / (count * (count - 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_all_alike_have_a_mean_cosine_of_one() {
        let alike = Matrix::new(2, [0.6, 0.8].repeat(5000)).unwrap();
        assert!((mean_cosine(&alike).unwrap() - 1.0).abs() < 1e-6);
        let opposite = Matrix::new(2, vec![1.0, 0.0, -1.0, 0.0]).unwrap();
        assert!((mean_cosine(&opposite).unwrap() + 1.0).abs() < 1e-6);
        assert_eq!(mean_cosine(&Matrix::new(2, vec![1.0, 0.0]).unwrap()), None);
    }

    #[test]
    fn half_of_what_is_current_is_enough_and_less_is_not() {
        assert_eq!(too_few(50, 50, 100, 0.5), None);
        assert_eq!(too_few(0, 0, 0, 0.5), None);
        let failed = too_few(49, 49, 100, 0.5).unwrap();
        assert_eq!((failed.gate.as_str(), failed.found.as_str()), ("item_count_ratio", "49 items, 0.4900"));
    }
}
