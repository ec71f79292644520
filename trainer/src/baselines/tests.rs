//! The baselines against plain references on small matrices, and on a planted structure.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Ease, ItemKnn, Popularity, Scorer, UserItems};

const CATALOG: usize = 30;

/// Users whose items are drawn at random, the first items far more often than the last.
fn random_users(users: usize, seed: u64) -> UserItems {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut matrix = UserItems::new(CATALOG);
    for _ in 0..users {
        let had = |rng: &mut ChaCha8Rng, item: usize| rng.random_bool(0.6 / (1.0 + item as f64 / 6.0));
        let items: Vec<u32> = (0..CATALOG as u32).filter(|&item| had(&mut rng, item as usize)).collect();
        matrix.push(&items);
    }
    matrix
}

fn dense(users: &UserItems) -> Vec<[f64; CATALOG]> {
    let row = |user| {
        let mut row = [0.0; CATALOG];
        users.of(user).iter().for_each(|&item| row[item as usize] = 1.0);
        row
    };
    (0..users.users()).map(row).collect()
}

fn dot(x: &[[f64; CATALOG]], i: usize, j: usize) -> f64 {
    x.iter().map(|row| row[i] * row[j]).sum()
}

fn scores(scorer: &dyn Scorer, history: &[u32]) -> Vec<f32> {
    let mut scores = vec![f32::NAN; CATALOG];
    scorer.score(history, &mut scores);
    scores
}

#[test]
fn item_knn_agrees_with_the_formula() {
    let users = random_users(200, 1);
    let x = dense(&users);
    let (neighbours, shrinkage) = (5, 3.0);
    let similarity = |i: usize, j: usize| dot(&x, i, j) / ((dot(&x, i, i) * dot(&x, j, j)).sqrt() + shrinkage);
    let history = [2, 9, 17];
    let found = scores(&ItemKnn::with(&users, neighbours, shrinkage as f32), &history);
    for (candidate, &score) in found.iter().enumerate() {
        let mut nearest: Vec<usize> = (0..CATALOG).filter(|&j| j != candidate).collect();
        nearest.sort_by(|&a, &b| similarity(candidate, b).total_cmp(&similarity(candidate, a)));
        nearest.truncate(neighbours);
        let had = nearest.into_iter().filter(|&j| history.contains(&(j as u32)));
        let expected: f64 = had.map(|j| similarity(candidate, j)).sum();
        let score = f64::from(score);
        assert!(
            if expected > 0.0 { (score - expected).abs() < 1e-5 } else { score < 0.0 },
            "{candidate}: {score} {expected}"
        );
    }
}

/// B has a zero diagonal and is where the gradient of |X - XB|^2 + lambda |B|^2 is zero off the diagonal: (X^T X + lambda I) B - X^T X is diagonal.
/// This is what EASE is defined by; the closed form is not used.
#[test]
fn ease_is_the_constrained_minimum() {
    let users = random_users(200, 2);
    let (x, lambda) = (dense(&users), 7.0);
    let ease = Ease::with(&users, (0..CATALOG as u32).collect(), lambda).unwrap();
    let b: Vec<Vec<f32>> = (0..CATALOG as u32).map(|item| scores(&ease, &[item])).collect();
    for i in 0..CATALOG {
        assert_eq!(b[i][i], 0.0);
        for j in (0..CATALOG).filter(|&j| j != i) {
            let product: f64 = (0..CATALOG).map(|k| dot(&x, i, k) * f64::from(b[k][j])).sum();
            let gradient = product + lambda * f64::from(b[i][j]) - dot(&x, i, j);
            assert!(gradient.abs() < 1e-3, "[{i}, {j}]: {gradient}");
        }
    }
    let sum: Vec<f32> = (0..CATALOG).map(|j| b[3][j] + b[8][j]).collect();
    let both = scores(&ease, &[3, 8]);
    assert!(both.iter().zip(&sum).all(|(a, b)| (a - b).abs() < 1e-6));
}

/// Six groups of five items; a user has four of one group and two of any. Both must rank the fifth of the group first.
#[test]
fn a_planted_structure_is_found() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut users = UserItems::new(CATALOG);
    for user in 0..600_u32 {
        let left_out = rng.random_range(0..5);
        let group = (0..5).filter(|&at| at != left_out).map(|at| (user % 6) * 5 + at);
        let mut items: Vec<u32> = group.collect();
        items.extend((0..2).map(|_| rng.random_range(0..CATALOG as u32)));
        users.push(&items);
    }
    let scorers: [&dyn Scorer; 2] = [&ItemKnn::fit(&users), &Ease::fit(&users, CATALOG).unwrap()];
    for scorer in scorers {
        for group in 0..6 {
            let history = [0, 1, 2, 3].map(|at| group * 5 + at);
            let found = scores(scorer, &history);
            let unseen = (0..CATALOG).filter(|&item| !history.contains(&(item as u32)));
            assert_eq!(unseen.max_by(|&a, &b| found[a].total_cmp(&found[b])), Some(group as usize * 5 + 4));
        }
    }
}

#[test]
fn without_a_history_the_ranking_is_popularity() {
    let users = random_users(200, 4);
    let counts = users.user_counts();
    let order = |scores: &[f32]| {
        let mut order: Vec<usize> = (0..CATALOG).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        order
    };
    let expected = order(&scores(&Popularity::of_users(&counts), &[]));
    assert_eq!(order(&scores(&ItemKnn::fit(&users), &[])), expected);
    assert_eq!(order(&scores(&Ease::fit(&users, CATALOG).unwrap(), &[])), expected);
}

#[test]
fn ease_of_a_part_of_the_catalog_knows_the_most_popular_and_ranks_the_rest_last() {
    let users = random_users(300, 5);
    let counts = users.user_counts();
    let ease = Ease::fit(&users, 4).unwrap();
    let found = scores(&ease, &[0]);
    let known = |item: usize| found[item] > f32::MIN;
    let least_known = (0..CATALOG).filter(|&i| known(i)).map(|i| counts[i]).min();
    let most_unknown = (0..CATALOG).filter(|&i| !known(i)).map(|i| counts[i]).max();
    assert_eq!((0..CATALOG).filter(|&i| known(i)).count(), 4);
    assert!(least_known >= most_unknown);
    assert!(found.iter().all(|score| score.is_finite()));
    // An unknown history is no history.
    let unknown = (0..CATALOG as u32).find(|&item| !known(item as usize)).unwrap();
    assert_eq!(scores(&ease, &[unknown]), scores(&ease, &[]));
}

#[test]
fn nothing_to_learn_from_is_no_fault() {
    let users = UserItems::new(CATALOG);
    assert!(scores(&ItemKnn::fit(&users), &[1]).iter().all(|score| score.is_finite()));
    assert_eq!(scores(&Ease::fit(&users, 10).unwrap(), &[1]), [0.0; CATALOG]);
}
