//! Movements against index arithmetic, for every element size.

use super::*;

fn dense(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for k in (1..shape.len()).rev() {
        strides[k - 1] = strides[k] * shape[k];
    }
    strides
}

/// The multi-index of flat element `i`.
fn index(mut i: usize, shape: &[usize]) -> Vec<usize> {
    let mut at = vec![0; shape.len()];
    for k in (0..shape.len()).rev() {
        at[k] = i % shape[k];
        i /= shape[k];
    }
    at
}

fn transposes<T: Copy + PartialEq + std::fmt::Debug>(value: impl Fn(usize) -> T) {
    let cases: [(&[usize], &[usize]); 17] = [
        (&[], &[]),
        (&[5], &[0]),
        (&[3, 4], &[0, 1]),
        (&[3, 4], &[1, 0]),
        (&[16, 16], &[1, 0]),
        (&[37, 51], &[1, 0]),
        (&[1, 33], &[1, 0]),
        (&[3, 100], &[1, 0]),
        (&[2, 3, 5], &[0, 2, 1]),
        (&[2, 9, 20], &[2, 1, 0]),
        (&[4, 20, 3], &[1, 0, 2]),
        (&[2, 7, 4, 2], &[0, 2, 1, 3]),
        (&[2, 19, 6, 10], &[0, 3, 1, 2]),
        (&[2, 3, 6, 10], &[0, 2, 3, 1]),
        (&[2, 3, 4, 5, 6], &[4, 2, 0, 3, 1]),
        (&[0, 4], &[1, 0]),
        (&[3, 2, 2, 3, 2, 2], &[0, 3, 4, 1, 5, 2]),
    ];
    for (shape, perm) in cases {
        let n: usize = shape.iter().product();
        let source: Vec<T> = (0..n).map(&value).collect();
        let movement = Movement::transpose(shape, perm).unwrap();
        let to_shape: Vec<usize> = perm.iter().map(|&p| shape[p]).collect();
        let strides = dense(shape);
        let expected: Vec<T> = (0..n)
            .map(|i| source[index(i, &to_shape).iter().zip(perm).map(|(i, &p)| i * strides[p]).sum::<usize>()])
            .collect();
        let mut to = vec![value(77); n];
        movement.run(&source, &mut to);
        assert_eq!(to, expected, "{shape:?} by {perm:?}");
        let split = movement.rows() / 2;
        let at = if movement.rows() == 0 { 0 } else { n / movement.rows() * split };
        let mut to = vec![value(78); n];
        let (front, back) = to.split_at_mut(at);
        movement.run_rows(&source, 0..split, front);
        movement.run_rows(&source, split..movement.rows(), back);
        assert_eq!(to, expected, "in two parts");
        assert!(!movement.is_identity() || expected == source);
    }
}

#[test]
fn every_size_is_transposed() {
    transposes(|i| i as u8);
    transposes(|i| i as u16);
    transposes(|i| i as u32);
    transposes(|i| i as u64);
    transposes(|i| [i as u64, 1]);
    transposes(|i| [i as u8, 1, 2]);
}

#[test]
fn movements_stay_inside() {
    assert!(Movement::transpose(&[2, 3], &[0, 0]).is_none());
    assert!(Movement::transpose(&[2, 3], &[0]).is_none());
    assert!(Movement::new(&[3], &[2], 0, 4).is_none());
    assert!(Movement::new(&[3], &[-1], 1, 9).is_none());
    assert!(Movement::new(&[usize::MAX, 2], &[0, 0], 0, 1).is_none());
    assert!(Movement::slice(&[5], &[4], &[1], &[2]).is_none());
    assert!(Movement::expand(&[2], &[3]).is_none());
    assert!(Movement::transpose(&[1, 8, 1], &[1, 2, 0]).unwrap().is_identity());
}

#[test]
fn slices_and_expansions() {
    let source: Vec<u32> = (0..60).collect();
    let movement = Movement::slice(&[3, 4, 5], &[2, 0, 4], &[-1, 2, -2], &[2, 2, 3]).unwrap();
    let mut to = vec![0; movement.len()];
    movement.run(&source, &mut to);
    assert_eq!(to, [44, 42, 40, 54, 52, 50, 24, 22, 20, 34, 32, 30]);
    let movement = Movement::expand(&[3, 1], &[2, 3, 2]).unwrap();
    let mut to = vec![0; movement.len()];
    movement.run(&source, &mut to);
    assert_eq!(to, [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2]);
    assert!(Movement::slice(&[3], &[0], &[1], &[0]).unwrap().is_empty());
}

#[test]
fn rows_are_copied_and_gathered() {
    let (a, b) = ([1, 2, 3, 4], [5, 6]);
    let mut to = [0; 6];
    copy_rows(2, 2, &a, 2, &mut to, 3);
    copy_rows(2, 1, &b, 1, &mut to[2..], 3);
    assert_eq!(to, [1, 2, 5, 3, 4, 6]);
    let mut left = [0; 4];
    copy_rows(2, 2, &to, 3, &mut left, 2);
    assert_eq!(left, a);
    assert_eq!(gather_rows(&to, 2, &[2, -3], &mut left), Ok(()));
    assert_eq!(left, [4, 6, 1, 2]);
    assert_eq!(gather_rows(&to, 2, &[0, 3], &mut left), Err(3));
    assert_eq!(gather_rows(&to, 2, &[0, i64::MIN], &mut left), Err(i64::MIN));
    assert_eq!(gather_rows(&to, 1, &[5, -6, 0, 1], &mut left), Ok(()));
    assert_eq!(left, [6, 1, 1, 2]);
}

#[test]
fn padding_in_every_mode() {
    let x = [1, 2, 3, 4, 5, 6];
    let pad = |edge, begin: &[i64], end: &[i64]| {
        let pad = Pad::new(&[2, 3], begin, end, edge).unwrap();
        let mut to = vec![-1; pad.len()];
        pad.run(&x, 0, &mut to);
        to
    };
    assert_eq!(pad(Edge::Constant, &[0, 1], &[1, 0]), [0, 1, 2, 3, 0, 4, 5, 6, 0, 0, 0, 0]);
    assert_eq!(pad(Edge::Constant, &[-1, 1], &[0, -1]), [0, 4, 5]);
    assert_eq!(pad(Edge::Replicate, &[1, 0], &[0, 1]), [1, 2, 3, 3, 1, 2, 3, 3, 4, 5, 6, 6]);
    assert_eq!(pad(Edge::Reflect, &[0, 2], &[0, 1]), [3, 2, 1, 2, 3, 2, 6, 5, 4, 5, 6, 5]);
    assert_eq!(pad(Edge::Wrap, &[0, 1], &[-1, 1]), [3, 1, 2, 3, 1]);
    assert!(Pad::new(&[2], &[-3], &[0], Edge::Constant).is_none());
    assert!(Pad::new(&[0], &[1], &[0], Edge::Replicate).is_none());
    assert!(Pad::new(&[2], &[i64::MAX], &[1], Edge::Constant).is_none());
}

#[test]
fn depth_becomes_space() {
    let (c, h, w) = (8, 2, 3);
    let source: Vec<u32> = (0..(c * h * w) as u32).collect();
    for (crd, last) in [(false, false), (true, false), (false, true), (true, true)] {
        let shape = if last { [1, h, w, c] } else { [1, c, h, w] };
        let movement = Movement::depth_to_space(shape, 2, crd, last).unwrap();
        let mut to = vec![0; source.len()];
        movement.run(&source, &mut to);
        for (k, y, x) in (0..2).flat_map(|k| (0..4).flat_map(move |y| (0..6).map(move |x| (k, y, x)))) {
            let channel = if crd { k * 4 + y % 2 * 2 + x % 2 } else { (y % 2 * 2 + x % 2) * 2 + k };
            let from = if last { (y / 2 * w + x / 2) * c + channel } else { (channel * h + y / 2) * w + x / 2 };
            let at = if last { (y * 6 + x) * 2 + k } else { (k * 4 + y) * 6 + x };
            assert_eq!(to[at], source[from], "crd {crd}, last {last}");
        }
    }
    assert!(Movement::depth_to_space([1, 6, 1, 1], 2, false, false).is_none());
    assert!(Movement::depth_to_space([1, 6, 1, 1], 0, false, false).is_none());
}
