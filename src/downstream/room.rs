//! Which connection makes room for a newcomer: a pure rule.

use std::time::Duration;

use super::connection::Cookie;
use super::limits::RATE_SPAN;

/// A connection that has waited for its client for less than this is not closed to make
/// room: a normal client's next request is on its way.
const MIN_WAITED: Duration = Duration::from_millis(100);

/// What becomes of a newcomer where `-max-connections` are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// This connection makes room.
    Shed(Cookie),
    /// That may change within this time.
    Wait(Duration),
    /// No connection can make room.
    None,
}

/// The connection that makes room: the one that has waited longest for its client, if that is
/// long enough; else one that crawls. A newcomer that has waited for half a second takes the
/// place of any that waits; if there is none, it is refused, or half a second later where a
/// transfer was still to be judged.
///
/// `longest`: the connection that has waited longest, and how long. `crawler`: one that
/// crawls, or when one may be known to. `full_for`: how long the newcomer has waited.
pub(super) fn make_room(
    longest: Option<(Cookie, Duration)>,
    crawler: impl FnOnce() -> (Option<Cookie>, Option<Duration>),
    full_for: Duration,
) -> Room {
    if let Some((cookie, waited)) = longest
        && (waited >= MIN_WAITED || full_for >= RATE_SPAN)
    {
        return Room::Shed(cookie);
    }
    let (crawler, next) = crawler();
    if let Some(cookie) = crawler {
        return Room::Shed(cookie);
    }
    let most = if next.is_some() {
        2 * RATE_SPAN
    } else {
        RATE_SPAN
    };
    if full_for >= most {
        return Room::None;
    }
    let comes_of_age = longest.map(|(_, waited)| MIN_WAITED.saturating_sub(waited));
    let wait = [comes_of_age, next, Some(RATE_SPAN.saturating_sub(full_for))];
    let wait = wait.into_iter().flatten().filter(|wait| !wait.is_zero());
    Room::Wait(wait.min().unwrap_or(RATE_SPAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn room_is_made_by_the_longest_wait_then_by_a_crawler() {
        let table = [
            // An idle one that has waited long enough.
            (
                (Some((1, MILLI * 100)), Some(2), None, Duration::ZERO),
                Room::Shed(1),
            ),
            // A young one stays while a crawler can go.
            (
                (Some((1, MILLI * 99)), Some(2), None, Duration::ZERO),
                Room::Shed(2),
            ),
            // Nothing can go yet: the first that can is waited for.
            (
                (Some((1, MILLI * 60)), None, None, Duration::ZERO),
                Room::Wait(MILLI * 40),
            ),
            (
                (None, None, Some(MILLI * 300), Duration::ZERO),
                Room::Wait(MILLI * 300),
            ),
            (
                (None, None, Some(MILLI * 300), MILLI * 400),
                Room::Wait(MILLI * 100),
            ),
            // All are being served.
            ((None, None, None, MILLI * 200), Room::Wait(MILLI * 300)),
            ((None, None, None, MILLI * 500), Room::None),
            ((None, None, Some(MILLI), MILLI * 500), Room::Wait(MILLI)),
            ((None, None, Some(MILLI), MILLI * 1000), Room::None),
            // A newcomer that has waited long enough.
            ((Some((1, MILLI)), None, None, MILLI * 500), Room::Shed(1)),
        ];
        for ((longest, crawler, next, full_for), wanted) in table {
            let found = make_room(longest, || (crawler, next), full_for);
            assert_eq!(
                found, wanted,
                "{longest:?} {crawler:?} {next:?} {full_for:?}"
            );
        }
    }
}
