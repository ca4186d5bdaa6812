//! Plots as paths of SVG. Pure.
//!
//! A plot is [`WIDTH`] by [`HEIGHT`] units, stretched to the room that the page has for it; its
//! axes are text beside it, which is not stretched. Time goes from left to right in slots of equal
//! width, the latest one at the right edge.

use std::fmt::Write as _;

/// Units of a plot from left to right and from top to bottom.
pub(super) const WIDTH: usize = 600;
pub(super) const HEIGHT: usize = 100;

/// The end of an axis that has room for `most`: 1, 2 or 5 times a power of ten.
pub(super) fn axis_end(most: f64) -> f64 {
    if most.is_nan() || most <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(most.log10().floor());
    let ends = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power);
    // Ten times the power of ten is always enough, but for rounding.
    ends.into_iter().find(|end| *end >= most).unwrap_or(most)
}

/// The area below a line of steps, for the values of the last slots.
pub(super) fn area(values: &[f64], slots: usize, end: f64) -> String {
    let mut path = String::new();
    let begin = slots.saturating_sub(values.len());
    let _ = write!(path, "M{} {HEIGHT}", left(begin, slots));
    for (slot, value) in (begin..).zip(values) {
        let (top, right) = (top(*value, end), left(slot + 1, slots));
        // Writing to a `String` does not fail.
        let _ = write!(path, "V{top}H{right}");
    }
    let _ = write!(path, "V{HEIGHT}Z");
    path
}

/// A line of steps, interrupted where there is no value.
pub(super) fn line(values: &[Option<f64>], slots: usize, end: f64) -> String {
    let mut path = String::new();
    let begin = slots.saturating_sub(values.len());
    let mut is_interrupted = true;
    for (slot, value) in (begin..).zip(values) {
        let Some(value) = value else {
            is_interrupted = true;
            continue;
        };
        let (top, right) = (top(*value, end), left(slot + 1, slots));
        let _ = if is_interrupted {
            write!(path, "M{} {top}H{right}", left(slot, slots))
        } else {
            write!(path, "V{top}H{right}")
        };
        is_interrupted = false;
    }
    path
}

/// The left edge of a slot.
fn left(slot: usize, slots: usize) -> usize {
    slot * WIDTH / slots.max(1)
}

/// A value's place from the top.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // From 0 to `HEIGHT`.
#[allow(clippy::cast_precision_loss)] // 100
fn top(value: f64, end: f64) -> usize {
    let height = HEIGHT as f64;
    let above = (height * (1.0 - value / end)).round().clamp(0.0, height);
    above as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        for (most, end) in [
            (0.0, 1.0),
            (-1.0, 1.0),
            (f64::NAN, 1.0),
            (0.003, 0.005),
            (0.2, 0.2),
            (1.0, 1.0),
            (1.1, 2.0),
            (49.0, 50.0),
            (51.0, 100.0),
            (99_999.0, 100_000.0),
        ] {
            let found = axis_end(most);
            assert!((found - end).abs() < end / 1e6, "{most}: {found}");
        }
    }

    #[test]
    fn an_area_ends_at_the_right_edge() {
        assert_eq!(area(&[1.0, 0.5], 4, 2.0), "M300 100V50H450V75H600V100Z");
        assert_eq!(area(&[], 4, 1.0), "M600 100V100Z");
        assert_eq!(area(&[3.0], 1, 2.0), "M0 100V0H600V100Z");
    }

    #[test]
    fn a_line_is_interrupted_where_nothing_is_known() {
        let values = [Some(1.0), None, Some(2.0), Some(0.0)];
        assert_eq!(line(&values, 4, 2.0), "M0 50H150M300 0H450V100H600");
        assert_eq!(line(&[None], 4, 2.0), "");
    }
}
