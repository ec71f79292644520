//! Every pooling: causal, differentiable, and what its formula says where that is short.

use candle_core::Var;

use super::*;
use crate::test_gradients::{assert_gradients, noise};

const POOLINGS: [HistoryPooling; 4] =
    [HistoryPooling::Mean, HistoryPooling::Recency, HistoryPooling::Attention, HistoryPooling::Transformer];

fn shape(pooling: HistoryPooling) -> HistoryShape {
    HistoryShape { pooling, heads: 2, blocks: 2, feed_forward: 6, dim: 4, max_length: 7 }
}

fn random(shape: &HistoryShape) -> BTreeMap<String, Tensor> {
    let tensor = |(seed, spec): (u32, WeightSpec)| (spec.name, noise(&spec.shape, seed));
    (1..).zip(shape.weights()).map(tensor).collect()
}

fn encoder(pooling: HistoryPooling) -> HistoryEncoder {
    HistoryEncoder::new(&shape(pooling), &random(&shape(pooling))).unwrap()
}

fn initial(pooling: HistoryPooling) -> HistoryEncoder {
    let shape = shape(pooling);
    let mut draws = noise(&[4000], 5).to_vec1::<f32>().unwrap().into_iter();
    let mut tensor = |spec: WeightSpec| {
        let values = spec.initial_values(|| draws.next().unwrap());
        (spec.name, Tensor::from_vec(values, spec.shape, &Device::Cpu).unwrap())
    };
    HistoryEncoder::new(&shape, &shape.weights().into_iter().map(&mut tensor).collect()).unwrap()
}

fn encoded(encoder: &HistoryEncoder, rows: &Tensor) -> Vec<Vec<Vec<f32>>> {
    encoder.encode_positions(rows, &Dropout::off()).unwrap().to_vec3().unwrap()
}

fn assert_close(a: &[f32], b: &[f32], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    a.iter().zip(b).for_each(|(a, b)| assert!((a - b).abs() < 1e-5, "{what}: {a} {b}"));
}

#[test]
fn no_position_sees_what_comes_after_it() {
    let rows = noise(&[3, 5, 4], 1);
    for pooling in POOLINGS {
        let encoder = encoder(pooling);
        let before = encoded(&encoder, &rows);
        for changed in 0..5 {
            let mut values = rows.to_vec3::<f32>().unwrap();
            values.iter_mut().for_each(|sequence| sequence[changed].iter_mut().for_each(|v| *v = 3.0 - *v));
            let after = encoded(&encoder, &Tensor::new(values, &Device::Cpu).unwrap());
            for (before, after) in before.iter().zip(&after) {
                assert_eq!(before[..changed], after[..changed], "{pooling:?} {changed}");
                assert!((changed..5).all(|t| before[t] != after[t]), "{pooling:?} {changed}: what came is not seen");
            }
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for pooling in POOLINGS {
        let shape = shape(pooling);
        let specs = shape.weights();
        let weights = random(&shape);
        let mut inputs: Vec<Tensor> = specs.iter().map(|spec| weights[&spec.name].clone()).collect();
        inputs.push(noise(&[2, 4, 4], 30));
        assert_gradients(&inputs, |inputs| {
            let named = specs.iter().zip(inputs).map(|(spec, tensor)| (spec.name.clone(), tensor.clone())).collect();
            let encoder = HistoryEncoder::new(&shape, &named)?;
            let all = encoder.encode_positions(&inputs[specs.len()], &Dropout::off())?;
            // Every position, one of them twice, and the empty history.
            let positions: Vec<Option<u32>> = (0..8).map(Some).chain([Some(3), None]).collect();
            encoder.select(&all, &positions)
        });
    }
}

#[test]
fn padding_is_no_nan_and_has_no_gradient() {
    for pooling in POOLINGS {
        let encoder = encoder(pooling);
        let mut values = noise(&[3, 5, 4], 1).to_vec3::<f32>().unwrap();
        values[1][2..].iter_mut().for_each(|row| row.fill(0.0));
        values[2].iter_mut().for_each(|row| row.fill(0.0));
        let rows = Var::from_tensor(&Tensor::new(values, &Device::Cpu).unwrap()).unwrap();
        let all = encoder.encode_positions(rows.as_tensor(), &Dropout::off()).unwrap();
        assert!(all.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|v| v.is_finite()), "{pooling:?}");
        let chosen = encoder.select(&all, &[Some(4), Some(6), None]).unwrap();
        let gradients = chosen.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        let found = gradients.get(&rows).unwrap().to_vec3::<f32>().unwrap();
        let padded = found[1][2..].iter().chain(&found[2]).flatten();
        assert!(padded.copied().all(|g| g == 0.0), "{pooling:?}");
        assert!(found[0].iter().chain(&found[1][..2]).flatten().any(|g| *g != 0.0), "{pooling:?}");
    }
}

#[test]
fn serving_takes_the_last_position_and_the_empty_history_has_a_vector_of_its_own() {
    for pooling in POOLINGS {
        let encoder = encoder(pooling);
        let mut rows = noise(&[3, 5, 4], 1).flatten_all().unwrap().to_vec1::<f32>().unwrap();
        rows[20 + 8..].fill(0.0);
        let sequences = Sequences { rows: rows.clone(), lengths: vec![5, 2, 0], length: 5, dim: 4 };
        let found: Vec<Vec<f32>> = encoder.encode(&sequences, &Dropout::off()).unwrap().to_vec2().unwrap();
        let alone = Sequences { rows: rows[20..28].to_vec(), lengths: vec![2], length: 2, dim: 4 };
        let alone: Vec<Vec<f32>> = encoder.encode(&alone, &Dropout::off()).unwrap().to_vec2().unwrap();
        assert_close(&found[1], &alone[0], "padding changes nothing");
        match encoder.weights().get("history.empty") {
            Some(empty) => assert_eq!(found[2], empty.to_vec1::<f32>().unwrap()),
            None => assert_eq!(found[2], [0.0; 4]),
        }
    }
}

#[test]
fn a_mean_is_the_mean_so_far_and_recency_and_attention_begin_as_one() {
    let rows = noise(&[2, 6, 4], 3);
    let values = rows.to_vec3::<f32>().unwrap();
    let small = (&rows * 0.01).unwrap();
    let means = encoded(&encoder(HistoryPooling::Mean), &rows);
    let recency = encoded(&initial(HistoryPooling::Recency), &rows);
    // Of small rows, so that queries and keys prefer hardly anything.
    let attention = encoded(&initial(HistoryPooling::Attention), &small);
    for n in 0..2 {
        for t in 0..6 {
            let mean: Vec<f32> =
                (0..4).map(|k| (0..=t).map(|j| values[n][j][k]).sum::<f32>() / (t + 1) as f32).collect();
            assert_close(&means[n][t], &mean, "mean");
            assert_close(&recency[n][t][..4], &mean, "the first head of recency");
            let scaled: Vec<f32> = attention[n][t].iter().map(|v| v * 100.0).collect();
            scaled.iter().zip(&mean).for_each(|(a, b)| assert!((a - b).abs() < 1e-2, "attention: {a} {b}"));
        }
    }
}

#[test]
fn recency_weighs_by_lag_as_its_formula_says() {
    let encoder = encoder(HistoryPooling::Recency);
    let lags = encoder.weights()["history.lags"].to_vec2::<f32>().unwrap();
    let rows = noise(&[2, 5, 4], 4);
    let values = rows.to_vec3::<f32>().unwrap();
    let found = encoded(&encoder, &rows);
    for n in 0..2 {
        for t in 0..5 {
            for (h, lags) in lags.iter().enumerate() {
                let total: f32 = lags[..=t].iter().map(|w| w.exp()).sum();
                let expected: Vec<f32> =
                    (0..4).map(|k| (0..=t).map(|j| lags[t - j].exp() / total * values[n][j][k]).sum()).collect();
                assert_close(&found[n][t][h * 4..(h + 1) * 4], &expected, "recency");
            }
        }
    }
}

#[test]
fn attention_agrees_with_its_formula() {
    let encoder = encoder(HistoryPooling::Attention);
    let weights = encoder.weights();
    let matrix = |name: &str| weights[name].to_vec2::<f32>().unwrap();
    let rows = noise(&[1, 5, 4], 6);
    let values = rows.to_vec3::<f32>().unwrap().remove(0);
    let project = |name: &str| -> Vec<Vec<f32>> {
        let w = matrix(name);
        values.iter().map(|x| (0..4).map(|o| (0..4).map(|i| x[i] * w[i][o]).sum()).collect()).collect()
    };
    let (q, k, v) = (project("history.query.weight"), project("history.key.weight"), project("history.value.weight"));
    let lags = matrix("history.lags");
    let found = encoded(&encoder, &rows).remove(0);
    for t in 0..5 {
        for (h, lags) in lags.iter().enumerate() {
            let head = h * 2..h * 2 + 2;
            let score = |j: usize| {
                let product: f32 = head.clone().map(|i| q[t][i] * k[j][i]).sum();
                (product / 2f32.sqrt() + lags[t - j]).exp()
            };
            let total: f32 = (0..=t).map(score).sum();
            let expected: Vec<f32> = head.clone().map(|i| (0..=t).map(|j| score(j) / total * v[j][i]).sum()).collect();
            assert_close(&found[t][head], &expected, "attention");
        }
    }
}

#[test]
fn dropout_is_seeded_and_leaves_causality_alone() {
    let encoder = encoder(HistoryPooling::Transformer);
    let rows = noise(&[2, 5, 4], 8);
    let with = |rows: &Tensor, seed| {
        encoder.encode_positions(rows, &Dropout::new(0.3, seed)).unwrap().to_vec3::<f32>().unwrap()
    };
    assert_eq!(with(&rows, 1), with(&rows, 1));
    assert_ne!(with(&rows, 1), with(&rows, 2));
    let mut values = rows.to_vec3::<f32>().unwrap();
    values[0][4].fill(9.0);
    let changed = with(&Tensor::new(values, &Device::Cpu).unwrap(), 1);
    assert_eq!(with(&rows, 1)[0][..4], changed[0][..4]);
}

#[test]
fn wrong_lengths_and_heads_are_refused() {
    let encoder = encoder(HistoryPooling::Transformer);
    let error = encoder.encode_positions(&noise(&[1, 8, 4], 1), &Dropout::off()).unwrap_err().to_string();
    assert!(error.contains("1 to 7") && error.contains('8'), "{error}");
    let shape = HistoryShape { heads: 3, ..shape(HistoryPooling::Attention) };
    assert!(HistoryEncoder::new(&shape, &random(&shape)).unwrap_err().to_string().contains("heads"));
}
