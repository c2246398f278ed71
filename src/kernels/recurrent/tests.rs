//! Steps against their equations in f64.

use super::super::arch::Isa;
use super::*;

fn numbers(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 500.0 - 2.0).collect()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[test]
fn lstm_steps() {
    for isa in Isa::available() {
        for hidden in [1, 5, 16, 37] {
            for option in 0..8 {
                let batch = 3;
                let gates = numbers(batch * 4 * hidden, 1);
                let old = numbers(batch * hidden, 2);
                let peepholes = numbers(3 * hidden, 3);
                let lstm = Lstm {
                    hidden,
                    peepholes: (option & 1 == 1).then_some(&peepholes[..]),
                    clip: (option & 2 == 2).then_some(0.8),
                    input_forget: option & 4 == 4,
                };
                let (mut cell, mut h) = (old.clone(), vec![0.0; old.len()]);
                lstm_step(isa, &lstm, &gates, &mut cell, &mut h);
                for (b, i) in (0..batch).flat_map(|b| (0..hidden).map(move |i| (b, i))) {
                    let gate = |k: usize| f64::from(gates[b * 4 * hidden + k * hidden + i]);
                    let p = |k: usize| lstm.peepholes.map_or(0.0, |p| f64::from(p[k * hidden + i]));
                    let clip =
                        |x: f64| x.clamp(-f64::from(lstm.clip.unwrap_or(1e9)), f64::from(lstm.clip.unwrap_or(1e9)));
                    let c = f64::from(old[b * hidden + i]);
                    let input = sigmoid(clip(gate(0) + p(0) * c));
                    let forget = if lstm.input_forget { 1.0 - input } else { sigmoid(clip(gate(2) + p(2) * c)) };
                    let new = forget * c + input * clip(gate(3)).tanh();
                    let out = sigmoid(clip(gate(1) + p(1) * new)) * new.tanh();
                    assert!((f64::from(cell[b * hidden + i]) - new).abs() < 2e-6);
                    assert!((f64::from(h[b * hidden + i]) - out).abs() < 2e-6);
                }
            }
        }
    }
}

#[test]
fn gru_steps_in_both_forms() {
    for isa in Isa::available() {
        for hidden in [1, 5, 16, 37] {
            for (clip, reset_before) in [(None, false), (None, true), (Some(0.7), false)] {
                let batch = 2;
                let (x, r) = (numbers(batch * 3 * hidden, 1), numbers(batch * 3 * hidden, 2));
                let old = numbers(batch * hidden, 3);
                let (mut h, mut reset) = (old.clone(), vec![0.0; old.len()]);
                gru_reset(isa, hidden, clip, &x, &r, &old, &mut reset);
                gru_step(isa, hidden, clip, reset_before, &x, &r, &mut h);
                for (b, i) in (0..batch).flat_map(|b| (0..hidden).map(move |i| (b, i))) {
                    let at = |v: &[f32], k: usize| f64::from(v[b * 3 * hidden + k * hidden + i]);
                    let limit = f64::from(clip.unwrap_or(1e9));
                    let clip = |x: f64| x.clamp(-limit, limit);
                    let c = f64::from(old[b * hidden + i]);
                    let update = sigmoid(clip(at(&x, 0) + at(&r, 0)));
                    let gate = sigmoid(clip(at(&x, 1) + at(&r, 1)));
                    let recurrent = if reset_before { at(&r, 2) } else { gate * at(&r, 2) };
                    let new = clip(at(&x, 2) + recurrent).tanh();
                    assert!((f64::from(h[b * hidden + i]) - ((1.0 - update) * new + update * c)).abs() < 2e-6);
                    assert!((f64::from(reset[b * hidden + i]) - gate * c).abs() < 2e-6);
                }
            }
        }
    }
}
