//! Sorting off the hot paths: lists of bookkeeping and of reference answers share one instance of the standard sort, since
//! each instance costs as much to compile as a small operator. What sorts while requests wait sorts by itself.

use std::cmp::Ordering;

/// The positions `0..count` in the order that `compare` gives them; equals stay in their order.
pub(crate) fn argsort(count: usize, compare: impl Fn(usize, usize) -> Ordering) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    sort_positions(&mut order, &compare);
    order
}

/// Sorts `items` by `compare`; equals stay in their order.
pub(crate) fn sort_by<T>(items: &mut Vec<T>, compare: impl Fn(&T, &T) -> Ordering) {
    let order = argsort(items.len(), |a, b| compare(&items[a], &items[b]));
    let mut taken: Vec<Option<T>> = items.drain(..).map(Some).collect();
    items.extend(order.into_iter().filter_map(|position| taken[position].take()));
}

/// Sorts `items`; equals stay in their order.
pub(crate) fn sort<T: Ord>(items: &mut Vec<T>) {
    sort_by(items, T::cmp);
}

#[inline(never)]
fn sort_positions(order: &mut [usize], compare: &dyn Fn(usize, usize) -> Ordering) {
    order.sort_by(|&a, &b| compare(a, b));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_keep_their_order() {
        let keys = [3, 1, 2, 1, 3];
        assert_eq!(argsort(keys.len(), |a, b| keys[a].cmp(&keys[b])), [1, 3, 2, 0, 4]);
        let mut named: Vec<(i32, String)> = keys.iter().enumerate().map(|(at, key)| (*key, at.to_string())).collect();
        sort_by(&mut named, |a, b| a.0.cmp(&b.0));
        assert!(named.iter().map(|(_, at)| at.as_str()).eq(["1", "3", "2", "0", "4"]));
        sort(&mut named);
        assert!(named.is_sorted());
    }
}
