//! Copies of runs: what concatenation, splitting and embedding lookups are.

/// Copies `rows` runs of `run` elements; run `r` goes from `r * from_stride` to `r * to_stride`. A concatenation is one
/// call an input (`to` begins at the input's place in the first output row), a split one call an output.
///
/// # Panics
/// Where a slice ends before its last run.
pub fn copy_rows<T: Copy>(rows: usize, run: usize, from: &[T], from_stride: usize, to: &mut [T], to_stride: usize) {
    if rows == 0 || run == 0 {
        return;
    }
    if run == from_stride && run == to_stride {
        let all = rows * run;
        to[..all].copy_from_slice(&from[..all]);
        return;
    }
    for r in 0..rows {
        to[r * to_stride..][..run].copy_from_slice(&from[r * from_stride..][..run]);
    }
}

/// `to[i] = table[indices[i]]` in rows of `row` elements; a negative index counts from the end. The error is the first
/// index that lies outside the table.
///
/// # Errors
/// The offending index.
///
/// # Panics
/// Where `to` has not a row for each index.
pub fn gather_rows<T: Copy>(table: &[T], row: usize, indices: &[i64], to: &mut [T]) -> Result<(), i64> {
    assert_eq!(to.len(), indices.len() * row, "a row for each index");
    let rows = table.len().checked_div(row).unwrap_or(0);
    let place = |index: i64| {
        let from_front = if index < 0 { index.checked_add_unsigned(rows as u64)? } else { index };
        usize::try_from(from_front).ok().filter(|&i| i < rows)
    };
    if row == 1 {
        for (to, &index) in to.iter_mut().zip(indices) {
            *to = table[place(index).ok_or(index)?];
        }
        return Ok(());
    }
    if row == 0 {
        return Ok(());
    }
    for (to, &index) in to.chunks_exact_mut(row).zip(indices) {
        let at = place(index).ok_or(index)? * row;
        to.copy_from_slice(&table[at..at + row]);
    }
    Ok(())
}
