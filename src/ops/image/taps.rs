//! Which elements of an axis make up an element of the resized axis, and with which weights.

use crate::error::{Result, bail};

/// Where an element of the resized axis lies in the old one; ONNX's `coordinate_transformation_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Coordinates {
    /// Centers of elements match.
    #[default]
    HalfPixel,
    /// The same, with the middle of the result over the middle of x where a length was rounded.
    HalfPixelSymmetric,
    /// Centers of elements match, but a result of one element lies at the start.
    PytorchHalfPixel,
    /// First and last elements match.
    AlignCorners,
    /// Starts of elements match.
    Asymmetric,
    /// Centers are kept as fractions of x: TensorFlow's old nearest sampling, in opset 11 alone.
    TfHalfPixelForNn,
    /// First and last elements match those of a region.
    CropAndResize,
}

const NAMES: [(Coordinates, &str); 7] = [
    (Coordinates::HalfPixel, "half_pixel"),
    (Coordinates::HalfPixelSymmetric, "half_pixel_symmetric"),
    (Coordinates::PytorchHalfPixel, "pytorch_half_pixel"),
    (Coordinates::AlignCorners, "align_corners"),
    (Coordinates::Asymmetric, "asymmetric"),
    (Coordinates::TfHalfPixelForNn, "tf_half_pixel_for_nn"),
    (Coordinates::CropAndResize, "tf_crop_and_resize"),
];

impl Coordinates {
    pub(super) fn from_name(name: &str) -> Result<Self> {
        match NAMES.iter().find(|(_, n)| *n == name) {
            Some((mode, _)) => Ok(*mode),
            None => bail!(InvalidModel, "coordinate_transformation_mode {name:?} is not known"),
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        NAMES.iter().find(|(mode, _)| *mode == self).map_or("half_pixel", |(_, name)| name)
    }

    /// Where element `i` of the result lies in x; `None` outside, which only a region can be.
    ///
    /// In single precision, as other runtimes compute it, so that halves between elements are told alike.
    pub(super) fn source(self, axis: &Axis, i: usize) -> Option<f64> {
        let (i, from, scale) = (i as f32, axis.from as f32, axis.scale as f32);
        // The length before it was rounded to a number of elements.
        let to = scale * from;
        let half_pixel = (i + 0.5) / scale - 0.5;
        let at = match self {
            Coordinates::HalfPixel => half_pixel,
            Coordinates::HalfPixelSymmetric => from / 2.0 * (1.0 - axis.to as f32 / to) + (i + 0.5) / scale - 0.5,
            Coordinates::PytorchHalfPixel if to == 1.0 => -0.5,
            Coordinates::PytorchHalfPixel => half_pixel,
            Coordinates::AlignCorners if to == 1.0 => 0.0,
            Coordinates::AlignCorners => i * (from - 1.0) / (to - 1.0),
            Coordinates::Asymmetric => i / scale,
            Coordinates::TfHalfPixelForNn => (i + 0.5) / scale,
            Coordinates::CropAndResize => {
                let (start, end) = axis.region;
                let span = (end - start) * (from - 1.0);
                let at = start * (from - 1.0) + if to == 1.0 { span / 2.0 } else { i * span / (to - 1.0) };
                return (0.0..=from - 1.0).contains(&at).then_some(f64::from(at));
            }
        };
        Some(f64::from(at))
    }
}

/// Which neighbor is the nearest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Nearest {
    /// The nearer; of two equally near the lower.
    #[default]
    RoundPreferFloor,
    /// The nearer; of two equally near the higher.
    RoundPreferCeil,
    /// The lower.
    Floor,
    /// The higher.
    Ceil,
}

impl Nearest {
    pub(super) fn from_name(name: &str) -> Result<Self> {
        Ok(match name {
            "round_prefer_floor" => Nearest::RoundPreferFloor,
            "round_prefer_ceil" => Nearest::RoundPreferCeil,
            "floor" => Nearest::Floor,
            "ceil" => Nearest::Ceil,
            _ => bail!(InvalidModel, "nearest_mode {name:?} is not known"),
        })
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Nearest::RoundPreferFloor => "round_prefer_floor",
            Nearest::RoundPreferCeil => "round_prefer_ceil",
            Nearest::Floor => "floor",
            Nearest::Ceil => "ceil",
        }
    }

    /// The element in `0..length` that is nearest to `at`.
    pub(super) fn of(self, at: f64, length: usize) -> usize {
        let rounded = match self {
            Nearest::RoundPreferFloor => (at - 0.5).ceil(),
            Nearest::RoundPreferCeil => (at + 0.5).floor(),
            Nearest::Floor => at.floor(),
            Nearest::Ceil => at.ceil(),
        };
        (rounded.max(0.0) as usize).min(length.saturating_sub(1))
    }
}

/// How an element is made of its neighbors.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Filter {
    /// The nearest one.
    Nearest(Nearest),
    /// Linear between two.
    Linear,
    /// Cubic convolution over four (Keys, 1981).
    Cubic {
        /// The free coefficient.
        a: f32,
    },
}

impl Filter {
    /// The weight of a neighbor at this distance.
    fn weight(self, distance: f64) -> f64 {
        let d = distance.abs();
        match self {
            Filter::Nearest(_) => f64::from(u8::from(d <= 0.5)),
            Filter::Linear => (1.0 - d).max(0.0),
            Filter::Cubic { a } => {
                let a = f64::from(a);
                match d {
                    _ if d <= 1.0 => ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0,
                    _ if d < 2.0 => ((d - 5.0) * d + 8.0) * d * a - 4.0 * a,
                    _ => 0.0,
                }
            }
        }
    }

    /// How far it reaches.
    fn reach(self) -> f64 {
        match self {
            Filter::Nearest(_) => 0.5,
            Filter::Linear => 1.0,
            Filter::Cubic { .. } => 2.0,
        }
    }
}

/// An axis to be resized.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    /// Its length.
    pub(super) from: usize,
    /// Its length afterwards.
    pub(super) to: usize,
    /// The ratio of the two before rounding.
    pub(super) scale: f64,
    /// The region that is taken, as fractions.
    pub(super) region: (f32, f32),
}

impl Axis {
    pub(super) fn is_identity(&self) -> bool {
        self.from == self.to && self.scale == 1.0 && self.region == (0.0, 1.0)
    }
}

/// For each element of the resized axis, its neighbors with their weights, or `None` outside the region.
#[derive(Debug)]
pub(super) struct Taps(Vec<Option<Vec<(usize, f64)>>>);

impl Taps {
    pub(super) fn new(
        axis: &Axis,
        filter: Filter,
        coordinates: Coordinates,
        antialias: bool,
        exclude_outside: bool,
    ) -> Self {
        let squeeze = if antialias { axis.scale.min(1.0) } else { 1.0 };
        let last = axis.from as i64 - 1;
        let taps = |at: f64| {
            let reach = filter.reach() / squeeze;
            // Past the edge nothing changes, so a place far outside makes no longer list than one just outside.
            let at = at.clamp(-reach - 1.0, last as f64 + reach + 1.0);
            let (low, high) = ((at - reach).floor() as i64, (at + reach).ceil() as i64);
            let mut taps: Vec<(usize, f64)> = Vec::new();
            for neighbor in low..=high {
                let weight = filter.weight((neighbor as f64 - at) * squeeze);
                let outside = neighbor < 0 || neighbor > last;
                if weight == 0.0 || outside && exclude_outside {
                    continue;
                }
                let place = neighbor.clamp(0, last) as usize;
                match taps.last_mut() {
                    Some((same, sum)) if *same == place => *sum += weight,
                    _ => taps.push((place, weight)),
                }
            }
            if antialias || exclude_outside {
                let total: f64 = taps.iter().map(|(_, weight)| weight).sum();
                if total != 0.0 {
                    taps.iter_mut().for_each(|(_, weight)| *weight /= total);
                }
            }
            taps
        };
        Taps((0..axis.to).map(|i| coordinates.source(axis, i).map(taps)).collect())
    }

    /// Resizes the middle axis of `x`, which is `[.., from, inner]`.
    pub(super) fn apply(&self, x: &[f64], from: usize, inner: usize, outside: f64) -> Vec<f64> {
        let mut out = Vec::with_capacity(x.len() / from.max(1) * self.0.len());
        for block in x.chunks_exact((from * inner).max(1)) {
            for taps in &self.0 {
                let Some(taps) = taps else {
                    out.extend(std::iter::repeat_n(outside, inner));
                    continue;
                };
                let start = out.len();
                out.resize(start + inner, 0.0);
                for &(place, weight) in taps {
                    let row = &block[place * inner..(place + 1) * inner];
                    out[start..].iter_mut().zip(row).for_each(|(sum, v)| *sum += weight * v);
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for (mode, name) in NAMES {
            assert_eq!(Coordinates::from_name(name).unwrap(), mode);
            assert_eq!(mode.as_str(), name);
        }
        for name in ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"] {
            assert_eq!(Nearest::from_name(name).unwrap().as_str(), name);
        }
        assert!(Coordinates::from_name("pixel").is_err() && Nearest::from_name("up").is_err());
    }

    #[test]
    fn the_nearest_lies_within() {
        for (mode, at, expected) in [
            (Nearest::RoundPreferFloor, 1.5, 1),
            (Nearest::RoundPreferCeil, 1.5, 2),
            (Nearest::Floor, 1.9, 1),
            (Nearest::Ceil, 1.1, 2),
            (Nearest::Floor, -0.5, 0),
            (Nearest::Ceil, 9.0, 3),
        ] {
            assert_eq!(mode.of(at, 4), expected, "{mode:?} of {at}");
        }
    }

    #[test]
    fn weights_sum_to_one() {
        let axis = Axis { from: 5, to: 3, scale: 0.6, region: (0.0, 1.0) };
        for filter in [Filter::Linear, Filter::Cubic { a: -0.75 }] {
            for (antialias, exclude) in [(false, false), (true, false), (true, true), (false, true)] {
                for taps in Taps::new(&axis, filter, Coordinates::HalfPixel, antialias, exclude).0 {
                    let total: f64 = taps.unwrap().iter().map(|(_, weight)| weight).sum();
                    assert!((total - 1.0).abs() < 1e-12);
                }
            }
        }
    }
}
