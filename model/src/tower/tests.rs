//! Each part of a tower against its formula, and its gradients against finite differences.

use candle_core::{DType, Device};

use super::*;
use crate::test_gradients::{assert_gradients, noise};

fn shape() -> TowerShape {
    TowerShape {
        features: vec![FeatureSlot { dim: 2, id_vectors: 1 }, FeatureSlot { dim: 1, id_vectors: 0 }],
        hidden: vec![2],
        perceptron: true,
        embedding_dim: 2,
        activation: Activation::Relu,
        residual: false,
        cross_layers: 0,
        feature_gate: false,
        objectives: 1,
    }
}

fn everything() -> TowerShape {
    TowerShape {
        hidden: vec![4, 4],
        embedding_dim: 4,
        activation: Activation::Gelu,
        residual: true,
        cross_layers: 2,
        feature_gate: true,
        objectives: 2,
        ..shape()
    }
}

fn full(shape: &TowerShape, value: f32) -> BTreeMap<String, Tensor> {
    let full = |spec: WeightSpec| (spec.name, Tensor::full(value, spec.shape, &Device::Cpu).unwrap());
    shape.weights().into_iter().map(full).collect()
}

fn random(shape: &TowerShape) -> BTreeMap<String, Tensor> {
    let tensor = |(seed, spec): (u32, WeightSpec)| (spec.name, noise(&spec.shape, seed));
    (1..).zip(shape.weights()).map(tensor).collect()
}

fn rows(tensor: &Tensor) -> Vec<Vec<f32>> {
    tensor.to_vec2().unwrap()
}

fn forward(shape: &TowerShape, weights: &BTreeMap<String, Tensor>, x: &Tensor) -> Vec<Vec<f32>> {
    rows(&Tower::new(shape, weights).unwrap().forward(x, &Dropout::off()).unwrap())
}

#[test]
fn a_tower_agrees_with_its_formula() {
    let x = Tensor::new(&[[1f32, 2.0, 3.0], [-1.0, -1.0, -1.0]], &Device::Cpu).unwrap();
    let y = forward(&shape(), &full(&shape(), 0.5), &x);
    // Both outputs are equal by symmetry, so the unit vector is (s, s) / sqrt(2): first row 6.0 > 0, second -1.0 < 0.
    let expected = std::f32::consts::FRAC_1_SQRT_2;
    assert!((y[0][0] - expected).abs() < 1e-6 && (y[0][1] - expected).abs() < 1e-6);
    assert!((y[1][0] + expected).abs() < 1e-6);
}

#[test]
fn without_hidden_layers_the_skip_and_a_bias_are_all() {
    let shape = TowerShape { hidden: vec![], perceptron: false, ..shape() };
    let names: Vec<String> = shape.weights().into_iter().map(|w| w.name).collect();
    assert_eq!(names, ["bias", "skip"]);
    let skip = Tensor::new(&[[1f32, 0.0], [0.0, 1.0], [0.0, 0.0]], &Device::Cpu).unwrap();
    let bias = Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap();
    let x = Tensor::new(&[[2f32, 2.0, 7.0]], &Device::Cpu).unwrap();
    let y = forward(&shape, &BTreeMap::from([("skip".into(), skip), ("bias".into(), bias)]), &x);
    assert!((y[0][0] - 0.6).abs() < 1e-6 && (y[0][1] - 0.8).abs() < 1e-6);
}

#[test]
fn cross_layers_multiply_the_input_in() {
    let layers = [
        Cross { weight: noise(&[3, 3], 1), bias: noise(&[3], 2) },
        Cross { weight: noise(&[3, 3], 3), bias: noise(&[3], 4) },
    ];
    let x0 = [0.5f32, -1.0, 2.0];
    let mut x = x0.to_vec();
    for Cross { weight, bias } in &layers {
        let (weight, bias) = (rows(weight), bias.to_vec1::<f32>().unwrap());
        let product = |j: usize| (0..3).map(|i| x[i] * weight[i][j]).sum::<f32>();
        x = (0..3).map(|j| x0[j] * (product(j) + bias[j]) + x[j]).collect();
    }
    let found = rows(&cross::forward(&layers, &Tensor::new(&[x0], &Device::Cpu).unwrap()).unwrap());
    found[0].iter().zip(&x).for_each(|(found, expected)| assert!((found - expected).abs() < 1e-5));
}

#[test]
fn a_gate_scales_each_feature_as_a_whole_and_begins_near_1() {
    let shape = TowerShape { feature_gate: true, ..shape() };
    let x = Tensor::new(&[[1f32, 3.0, -1.0]], &Device::Cpu).unwrap();
    let neutral = Gate::new(&shape.features, &full(&shape, 0.0)).unwrap();
    assert_eq!(rows(&neutral.forward(&x).unwrap()), rows(&x));
    let mut weights = full(&shape, 0.0);
    weights.insert("gate0.weight".into(), Tensor::new(&[[1f32], [0.0]], &Device::Cpu).unwrap());
    weights.insert("gate1.weight".into(), Tensor::new(&[[1f32, -1.0]], &Device::Cpu).unwrap());
    // The first feature's mean is 2, so the gates are 2 sigmoid(2) and 2 sigmoid(-2).
    let gate = |logit: f32| 2.0 / (1.0 + (-logit).exp());
    let found = rows(&Gate::new(&shape.features, &weights).unwrap().forward(&x).unwrap());
    for (found, expected) in found[0].iter().zip([gate(2.0), 3.0 * gate(2.0), -gate(-2.0)]) {
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
}

#[test]
fn residuals_stand_between_hidden_layers_of_one_width() {
    let plain = TowerShape { hidden: vec![3, 3], ..shape() };
    let mut weights = random(&plain);
    weights.insert("layer1.weight".into(), Tensor::zeros((3, 3), DType::F32, &Device::Cpu).unwrap());
    weights.insert("layer1.bias".into(), Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap());
    // The second layer says nothing, so that with a residual the tower is the one without it.
    let one = TowerShape { hidden: vec![3], ..shape() };
    let mut one_weights = weights.clone();
    ["weight", "bias"].iter().for_each(|part| {
        one_weights.insert(format!("layer1.{part}"), weights[&format!("layer2.{part}")].clone());
    });
    let x = noise(&[4, 3], 50);
    let residual = TowerShape { residual: true, ..plain };
    assert_eq!(forward(&residual, &weights, &x), forward(&one, &one_weights, &x));
}

#[test]
fn every_objective_has_an_equal_part_of_the_norm() {
    let shape = everything();
    for row in forward(&shape, &random(&shape), &noise(&[5, 3], 60)) {
        let square = |slice: &[f32]| slice.iter().map(|v| v * v).sum::<f32>();
        assert!((square(&row[..2]) - 0.5).abs() < 1e-5 && (square(&row[2..]) - 0.5).abs() < 1e-5);
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for shape in [shape(), everything(), TowerShape { hidden: vec![], perceptron: false, ..everything() }] {
        let specs = shape.weights();
        let weights = random(&shape);
        let mut inputs: Vec<Tensor> = specs.iter().map(|spec| weights[&spec.name].clone()).collect();
        inputs.push(noise(&[4, 3], 70));
        assert_gradients(&inputs, |inputs| {
            let named = specs.iter().zip(inputs).map(|(spec, tensor)| (spec.name.clone(), tensor.clone())).collect();
            Tower::new(&shape, &named)?.forward(&inputs[specs.len()], &Dropout::off())
        });
    }
}

#[test]
fn dropout_is_only_in_training_and_is_seeded() {
    let shape = TowerShape { hidden: vec![64], ..shape() };
    let tower = Tower::new(&shape, &random(&shape)).unwrap();
    let x = noise(&[4, 3], 80);
    let with = |dropout: Dropout| rows(&tower.forward(&x, &dropout).unwrap());
    assert_eq!(with(Dropout::new(0.5, 1)), with(Dropout::new(0.5, 1)));
    assert_ne!(with(Dropout::new(0.5, 1)), with(Dropout::new(0.5, 2)));
    assert_ne!(with(Dropout::new(0.5, 1)), with(Dropout::off()));
}

#[test]
fn a_zero_output_stays_zero_and_is_no_nan() {
    let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(forward(&shape(), &full(&shape(), 0.0), &x), vec![vec![0.0; 2]; 2]);
    let everything = everything();
    assert_eq!(forward(&everything, &full(&everything, 0.0), &x), vec![vec![0.0; 4]; 2]);
}

#[test]
fn missing_and_misshapen_weights_are_refused() {
    let mut bad = full(&shape(), 0.0);
    bad.remove("skip");
    assert!(Tower::new(&shape(), &bad).unwrap_err().to_string().contains("skip"));
    let mut bad = full(&shape(), 0.0);
    bad.insert("layer0.bias".into(), Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap());
    assert!(Tower::new(&shape(), &bad).unwrap_err().to_string().contains("layer0.bias"));
}
