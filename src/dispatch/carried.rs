//! What is kept of endpoints when a list of them follows another one.

use std::sync::Arc;

/// What is known of each endpoint of a list in which the endpoints had these places before; of one
/// without nothing. It is shared: what requests of the list before report is known, too.
pub(super) fn carried<T: Default>(known: &[Arc<T>], before: &[Option<usize>]) -> Vec<Arc<T>> {
    let of = |place: &Option<usize>| known.get((*place)?).map(Arc::clone);
    let carried = before.iter().map(|place| of(place).unwrap_or_default());
    carried.collect()
}
