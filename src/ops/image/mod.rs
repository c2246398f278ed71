//! Images: resizing, sampling, blocks of pixels, and boxes.

mod affine_grid;
mod center_crop_pad;
mod col2im;
mod depth_space;
mod grid_sample;
mod non_max_suppression;
mod resize;
mod roi_align;
mod taps;

pub use affine_grid::AffineGrid;
pub use center_crop_pad::CenterCropPad;
pub use col2im::Col2Im;
pub use depth_space::{DepthToSpace, SpaceToDepth};
pub use grid_sample::{GridMode, GridPadding, GridSample};
pub use non_max_suppression::NonMaxSuppression;
pub use resize::{AspectPolicy, Resize};
pub use roi_align::RoiAlign;
pub use taps::{Coordinates, Filter, Nearest};

use super::OpDef;

pub(super) const OPS: &[OpDef] = &[
    OpDef::new("Resize", 19, 1..=4, Resize::read).since(10),
    OpDef::new("Upsample", 9, 1..=2, Resize::read).since(7),
    OpDef::new("DepthToSpace", 13, 1..=1, DepthToSpace::read),
    OpDef::new("SpaceToDepth", 13, 1..=1, SpaceToDepth::read),
    OpDef::new("GridSample", 20, 2..=2, GridSample::read).since(16),
    OpDef::new("NonMaxSuppression", 11, 2..=5, NonMaxSuppression::read).since(10),
    OpDef::new("RoiAlign", 16, 3..=3, RoiAlign::read).since(10),
    OpDef::new("AffineGrid", 20, 2..=2, AffineGrid::read).since(20),
    OpDef::new("Col2Im", 18, 3..=3, Col2Im::read).since(18),
    OpDef::new("CenterCropPad", 18, 2..=2, CenterCropPad::read).since(18),
];
