//! Which positives are test.

use pagoda_model::schema::Split;

use super::Positive;
use crate::error::TrainError;

/// Marks the test positives among positives sorted by time. Neither part may be empty.
pub(crate) fn split_positives(positives: &mut [Positive], split: Split, test_share: f64) -> Result<(), TrainError> {
    match split {
        Split::Temporal => mark_newest(positives, test_share),
        Split::LeaveLastOut => mark_last_of_each_user(positives),
        Split::Given => {}
    }
    let test = positives.iter().filter(|p| p.test).count();
    let train = positives.len() - test;
    if train == 0 || test == 0 {
        return Err(TrainError::TooLittleData(format!(
            "the split {split:?} of {} positives has {train} to train on and {test} to test with, expected some of each",
            positives.len()
        )));
    }
    Ok(())
}

/// Everything from the timestamp on at which the newest share begins: equal timestamps are never on both sides.
fn mark_newest(positives: &mut [Positive], test_share: f64) {
    let first = ((positives.len() as f64) * (1.0 - test_share)).floor() as usize;
    let Some(cut) = positives.get(first).map(|p| p.timestamp) else { return };
    positives.iter_mut().for_each(|p| p.test = p.timestamp >= cut);
}

/// The last positive of every user who has at least two.
fn mark_last_of_each_user(positives: &mut [Positive]) {
    let users = positives.iter().map(|p| p.user as usize + 1).max().unwrap_or(0);
    let mut last = vec![None; users];
    let mut count = vec![0_u32; users];
    for (i, positive) in positives.iter_mut().enumerate() {
        positive.test = false;
        last[positive.user as usize] = Some(i);
        count[positive.user as usize] += 1;
    }
    let lasts = last.into_iter().zip(count).filter(|&(_, count)| count >= 2).filter_map(|(last, _)| last);
    lasts.for_each(|i| positives[i].test = true);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positives(rows: &[(u32, i64)]) -> Vec<Positive> {
        let positive =
            |&(user, timestamp): &(u32, i64)| Positive { user, item: 0, timestamp, weight: 1.0, test: false };
        rows.iter().map(positive).collect()
    }

    fn test_rows(positives: &[Positive]) -> Vec<usize> {
        (0..positives.len()).filter(|&i| positives[i].test).collect()
    }

    #[test]
    fn equal_timestamps_are_on_one_side_of_a_temporal_cut() {
        let mut rows = positives(&[(0, 1), (1, 2), (0, 3), (1, 3), (2, 3)]);
        split_positives(&mut rows, Split::Temporal, 0.2).unwrap();
        assert_eq!(test_rows(&rows), [2, 3, 4]);
    }

    #[test]
    fn the_last_of_each_user_is_left_out_unless_it_is_the_only_one() {
        let mut rows = positives(&[(0, 1), (1, 1), (0, 2), (2, 3), (1, 4)]);
        split_positives(&mut rows, Split::LeaveLastOut, 0.1).unwrap();
        assert_eq!(test_rows(&rows), [2, 4]);
    }

    #[test]
    fn a_split_with_an_empty_part_is_refused() {
        let mut rows = positives(&[(0, 1), (1, 1)]);
        let error = split_positives(&mut rows, Split::Temporal, 0.1).unwrap_err().to_string();
        assert!(error.contains("0 to train on and 2 to test"), "{error}");
    }
}
