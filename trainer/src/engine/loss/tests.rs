//! Losses and gradients beside the formulas, written plainly in f64, and beside finite differences.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::config::TrainConfig;

/// The numbers that a gradient is by.
type Field = fn(&mut Case) -> &mut Vec<f32>;

const DIM: usize = 8;
const KINDS: [LossKind; 5] =
    [LossKind::Softmax, LossKind::BinaryCrossEntropy, LossKind::Bpr, LossKind::Margin, LossKind::CosineContrastive];

#[derive(Clone)]
struct Case {
    kind: LossKind,
    temperature: f32,
    users: Vec<f32>,
    positives: Vec<f32>,
    columns: Vec<f32>,
    private: Vec<f32>,
    private_rows: Lists<u32>,
    weights: Vec<f32>,
    log_q: [Vec<f32>; 3],
    masked: Lists<u32>,
    adjusted: Lists<(u32, f32)>,
}

impl Case {
    fn new(kind: LossKind, rows: usize, columns: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut floats = |n: usize| (0..n).map(|_| rng.random_range(-0.5..0.5)).collect::<Vec<f32>>();
        // Every other row has one or two; rows share them.
        let private = rows.div_ceil(4);
        let own = |row: usize| (0..row % 2 * (1 + row % 3)).map(move |n| ((row + n) % private) as u32);
        let private_rows: Lists<u32> = (0..rows).map(own).collect();
        let softmax = kind == LossKind::Softmax;
        let mut log_q = |n: usize| if softmax { floats(n) } else { vec![0.0; n] };
        let log_q = [log_q(rows), log_q(columns), log_q(private_rows.values().len())];
        let is_masked = |row: usize, column: usize| (column * 7 + row).is_multiple_of(11);
        let masked = (0..rows).map(|row| (0..columns as u32).filter(move |&c| is_masked(row, c as usize))).collect();
        let shifts = |row: usize| if softmax { vec![((row % columns) as u32, 0.3)] } else { Vec::new() };
        Self {
            kind,
            temperature: 0.2,
            users: floats(rows * DIM),
            positives: floats(rows * DIM),
            columns: floats(columns * DIM),
            private: floats(private * DIM),
            weights: floats(rows).into_iter().map(|w| w + 1.0).collect(),
            adjusted: (0..rows).map(shifts).collect(),
            private_rows,
            log_q,
            masked,
        }
    }

    fn output(&self, learned_columns: usize) -> LossOutput {
        let mut config = TrainConfig::default().loss;
        (config.kind, config.margin, config.negative_weight) = (self.kind, 0.1, 0.7);
        let half = self.log_q[1].len() / 2;
        loss(&LossInput {
            dim: DIM,
            users: &self.users,
            positives: &self.positives,
            columns: &self.columns,
            learned_columns,
            private: &self.private,
            private_rows: &self.private_rows,
            weights: &self.weights,
            log_q: LogQValues { positives: &self.log_q[0], columns: &self.log_q[1], private: &self.log_q[2] },
            masked: &self.masked,
            adjusted: &self.adjusted,
            settings: LossSettings::new(&config, self.temperature),
            segments: &[0..half, half..self.log_q[1].len()],
        })
        .unwrap()
    }

    /// The mean of rows' losses, by the formulas of `rows.rs`.
    fn reference(&self) -> f64 {
        let total: f64 = self.weights.iter().map(|&w| f64::from(w)).sum();
        (0..self.weights.len()).map(|row| f64::from(self.weights[row]) * self.reference_row(row)).sum::<f64>() / total
    }

    fn reference_row(&self, row: usize) -> f64 {
        let dot = |b: &[f32], j: usize| -> f64 {
            let (u, v) = (&self.users[row * DIM..][..DIM], &b[j * DIM..][..DIM]);
            u.iter().zip(v).map(|(u, v)| f64::from(*u) * f64::from(*v)).sum()
        };
        let t = f64::from(self.temperature);
        let positive = dot(&self.positives, row);
        let columns = (0..self.log_q[1].len()).filter(|&c| !self.masked.list(row).contains(&(c as u32)));
        let shift = |c: usize| -> f64 {
            self.adjusted.list(row).iter().filter(|a| a.0 as usize == c).map(|a| f64::from(a.1)).sum()
        };
        let shared = columns.map(|c| (dot(&self.columns, c), f64::from(self.log_q[1][c]) + shift(c)));
        let own = self
            .private_rows
            .range(row)
            .map(|p| (dot(&self.private, self.private_rows.values()[p] as usize), f64::from(self.log_q[2][p])));
        let negatives: Vec<(f64, f64)> = shared.chain(own).collect();
        let mean =
            |f: &dyn Fn(f64) -> f64| negatives.iter().map(|n| f(n.0)).sum::<f64>() / negatives.len().max(1) as f64;
        let softplus = |x: f64| x.exp().ln_1p();
        match self.kind {
            LossKind::Softmax => {
                let own = positive / t - f64::from(self.log_q[0][row]);
                let sum: f64 = negatives.iter().map(|(s, q)| (s / t - q).exp()).sum::<f64>() + own.exp();
                sum.ln() - own
            }
            LossKind::BinaryCrossEntropy => softplus(-positive / t) + 0.7 * mean(&|s| softplus(s / t)),
            LossKind::Bpr => mean(&|s| softplus((s - positive) / t)),
            LossKind::Margin => mean(&|s| (s - positive + f64::from(0.1_f32)).max(0.0)),
            LossKind::CosineContrastive => 1.0 - positive + 0.7 * mean(&|s| (s - f64::from(0.1_f32)).max(0.0)),
        }
    }
}

#[test]
fn losses_agree_with_their_formulas_across_blocks_and_groups() {
    for kind in KINDS {
        let case = Case::new(kind, GROUPS * BLOCK + 40, 300);
        let found = f64::from(case.output(300).loss);
        assert!((found - case.reference()).abs() < 2e-5, "{kind:?}: {found} {}", case.reference());
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    for kind in KINDS {
        let case = Case::new(kind, 7, 13);
        let output = case.output(13);
        let fields: [(&str, Field, &Vec<f32>); 4] = [
            ("users", |c| &mut c.users, &output.d_users),
            ("positives", |c| &mut c.positives, &output.d_positives),
            ("columns", |c| &mut c.columns, &output.d_columns),
            ("private", |c| &mut c.private, &output.d_private),
        ];
        for (name, field, gradient) in fields {
            for (at, found) in gradient.iter().enumerate() {
                let difference = difference(&case, |case| &mut field(case)[at]);
                assert!((difference - f64::from(*found)).abs() < 2e-3, "{kind:?} {name} {at}: {difference} {found}");
            }
        }
    }
    let case = Case::new(LossKind::Softmax, 7, 13);
    let (difference, found) = (difference(&case, |c| &mut c.temperature), case.output(13).d_temperature);
    assert!((difference - f64::from(found)).abs() < 1e-3, "temperature: {difference} {found}");
}

/// d reference / d number. Hinges have kinks, so the step is small.
fn difference(case: &Case, number: impl Fn(&mut Case) -> &mut f32) -> f64 {
    let step = 1e-4;
    let at = |by: f32| {
        let mut moved = case.clone();
        *number(&mut moved) += by;
        let real = *number(&mut moved);
        (moved.reference(), f64::from(real))
    };
    let ((above, x1), (below, x0)) = (at(step), at(-step));
    (above - below) / (x1 - x0)
}

#[test]
fn columns_that_are_not_learned_have_no_gradient_and_change_nothing_else() {
    let case = Case::new(LossKind::Softmax, 9, 20);
    let (all, some) = (case.output(20), case.output(12));
    assert_eq!(some.d_columns.len(), 12 * DIM);
    assert_eq!((some.loss, &some.d_users), (all.loss, &all.d_users));
    some.d_columns.iter().zip(&all.d_columns).for_each(|(a, b)| assert!((a - b).abs() < 1e-6));
}

#[test]
fn masses_are_the_sums_of_derivatives_by_source() {
    let case = Case::new(LossKind::Softmax, 9, 20);
    let masses = case.output(20).masses;
    // What is subtracted from a logit is to the score as -1 to 1 / temperature.
    let mass = |field: Field, numbers: std::ops::Range<usize>| -> f64 {
        numbers.map(|at| -difference(&case, |case| &mut field(case)[at])).sum::<f64>() / f64::from(case.temperature)
    };
    let expected = [
        mass(|case| &mut case.log_q[1], 0..10),
        mass(|case| &mut case.log_q[1], 10..20),
        mass(|case| &mut case.log_q[2], 0..case.log_q[2].len()),
    ];
    assert_eq!(masses.len(), expected.len());
    assert!(masses.iter().zip(expected).all(|(m, e)| e > 0.1 && (m - e).abs() < 2e-3), "{masses:?} {expected:?}");
}

#[test]
fn a_nan_anywhere_reaches_the_loss() {
    for kind in KINDS {
        let is_finite = |change: &dyn Fn(&mut Case)| {
            let mut case = Case::new(kind, 6, 23);
            change(&mut case);
            case.output(23).loss.is_finite()
        };
        assert!(is_finite(&|_| ()));
        for column in 0..23 {
            assert!(!is_finite(&|case| case.columns[column * DIM] = f32::NAN), "{kind:?} column {column}");
        }
        for row in 0..6 {
            assert!(!is_finite(&|case| case.users[row * DIM] = f32::NAN), "{kind:?} user {row}");
            assert!(!is_finite(&|case| case.positives[row * DIM] = f32::NAN), "{kind:?} positive {row}");
        }
    }
}

/// On a small catalog: the expectation, over draws from a skewed proposal, of the corrected sampled softmax's gradient is that of the full
/// softmax, and without the correction it is not ("Correcting the LogQ Correction", RecSys 2025).
#[test]
fn the_corrected_log_q_gives_the_full_softmax() {
    let (catalog, draws, trials) = (40, 200, 400);
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let items: Vec<f32> = (0..catalog * DIM).map(|_| rng.random_range(-0.7..0.7)).collect();
    let user: Vec<f32> = (0..DIM).map(|_| rng.random_range(-0.7..0.7)).collect();
    let q: Vec<f64> = (1..=catalog).map(|i| 1.0 / i as f64).collect();
    let total: f64 = q.iter().sum();
    let positive = 3;
    let full = softmax_gradient(&user, &items, positive, &(0..catalog).collect::<Vec<_>>(), |_| 0.0);
    let mut sums = [vec![0.0_f64; DIM], vec![0.0_f64; DIM]];
    for _ in 0..trials {
        let drawn: Vec<usize> = (0..draws)
            .map(|_| {
                let mut at = rng.random_range(0.0..total);
                q.iter()
                    .position(|q| {
                        at -= q;
                        at < 0.0
                    })
                    .unwrap_or(catalog - 1)
            })
            .collect();
        let log_q = |item: usize| (draws as f64 * q[item] / total).ln() as f32;
        let corrected = softmax_gradient(&user, &items, positive, &drawn, log_q);
        let plain = softmax_gradient(&user, &items, positive, &drawn, |_| 0.0);
        (0..DIM).for_each(|k| sums[0][k] += f64::from(corrected[k]) / f64::from(trials));
        (0..DIM).for_each(|k| sums[1][k] += f64::from(plain[k]) / f64::from(trials));
    }
    let distance = |found: &[f64]| {
        let (mut difference, mut norm) = (0.0, 0.0);
        for (found, full) in found.iter().zip(&full) {
            difference += (found - f64::from(*full)).powi(2);
            norm += f64::from(*full).powi(2);
        }
        (difference / norm).sqrt()
    };
    let (corrected, plain) = (distance(&sums[0]), distance(&sums[1]));
    assert!(corrected < 0.06, "{corrected} from the full softmax");
    assert!(plain > 3.0 * corrected, "{plain} without a correction, {corrected} with it");
}

/// d loss / d user of one row whose columns are some items; the positive is masked among them and stays uncorrected.
fn softmax_gradient(
    user: &[f32],
    items: &[f32],
    positive: usize,
    columns: &[usize],
    log_q: impl Fn(usize) -> f32,
) -> Vec<f32> {
    let config = TrainConfig::default().loss;
    let vectors: Vec<f32> = columns.iter().flat_map(|&item| items[item * DIM..(item + 1) * DIM].to_vec()).collect();
    let corrections: Vec<f32> = columns.iter().map(|&item| log_q(item)).collect();
    let masked: Vec<u32> = (0..columns.len()).filter(|&c| columns[c] == positive).map(|c| c as u32).collect();
    let output = loss(&LossInput {
        dim: DIM,
        users: user,
        positives: &items[positive * DIM..(positive + 1) * DIM],
        columns: &vectors,
        learned_columns: columns.len(),
        private: &[],
        private_rows: &[[]].into_iter().collect(),
        weights: &[1.0],
        log_q: LogQValues { positives: &[0.0], columns: &corrections, private: &[] },
        masked: &[masked].into_iter().collect(),
        adjusted: &[[]].into_iter().collect(),
        settings: LossSettings::new(&config, 0.5),
        segments: &[],
    });
    output.unwrap().d_users
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let case = Case::new(LossKind::Softmax, 3 * BLOCK + 5, 200);
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let output = pool.install(|| case.output(200));
        (output.loss, output.d_users, output.d_columns)
    };
    assert_eq!(with(1), with(3));
}
