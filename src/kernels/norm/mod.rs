//! Layer, root-mean-square, instance, group and batch normalization.
