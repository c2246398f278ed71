//! Elements moved and not changed: transposes, copies, gathers, padding, resizing.
