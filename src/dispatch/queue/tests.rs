use std::time::Duration;

use super::*;
use crate::dispatch::cooldown::PassedOver;
use crate::dispatch::order::Ranking;
use crate::dispatch::policy::{CooldownConfig, Order};

const LONG: Duration = Duration::from_secs(3600);

const FAILED: Option<PassedOver> = Some(PassedOver::Failed(1, LONG));

/// So many endpoints, of which these are cooling.
fn cooldown(endpoints: usize, cooling: &[usize], now: Instant) -> Cooldown {
    let rule = CooldownConfig {
        max_fails: NonZeroU32::MIN,
        length: LONG,
    };
    let cooldown = Cooldown::new(Some(rule), endpoints);
    for endpoint in cooling {
        let claim = cooldown.claim(*endpoint, now).unwrap();
        assert_eq!(claim.failed(now, Duration::ZERO), FAILED);
    }
    cooldown
}

fn queue(order: &Ranking, now: Instant, max_tries: u32) -> Queue {
    Queue::new(order.sequence(now), NonZeroU32::new(max_tries))
}

/// The endpoints of the round that has begun.
fn round(queue: &mut Queue, cooldown: &Cooldown, now: Instant) -> Vec<usize> {
    std::iter::from_fn(|| Some(queue.next(cooldown, now)?.0)).collect()
}

#[test]
fn rounds_go_through_all_endpoints_that_are_not_passed_over() {
    // How many endpoints there are, which ones are cooling, -max-tries, what three rounds are.
    type Row<'a> = (usize, &'a [usize], u32, [&'a [usize]; 3]);
    let table: [Row<'_>; 10] = [
        (1, &[], 0, [&[0], &[0], &[0]]),
        (3, &[], 0, [&[0, 1, 2], &[0, 1, 2], &[0, 1, 2]]),
        (3, &[], 2, [&[0, 1], &[], &[]]),
        (3, &[], 4, [&[0, 1, 2], &[0], &[]]),
        (3, &[], 6, [&[0, 1, 2], &[0, 1, 2], &[]]),
        (1, &[], 2, [&[0], &[0], &[]]),
        (3, &[1], 0, [&[0, 2], &[0, 2], &[0, 2]]),
        (3, &[0, 1], 2, [&[2], &[2], &[]]),
        (3, &[0, 1, 2], 0, [&[0, 1, 2], &[0, 1, 2], &[0, 1, 2]]),
        (2, &[0, 1], 3, [&[0, 1], &[0], &[]]),
    ];
    for (endpoints, cooling, max_tries, wanted) in table {
        let now = Instant::now();
        let cooldown = cooldown(endpoints, cooling, now);
        let order = Ranking::new(Order::Listed, endpoints);
        let mut queue = queue(&order, now, max_tries);
        assert!(!queue.has_begun());
        for wanted in wanted {
            let got = round(&mut queue, &cooldown, now);
            assert_eq!(got, wanted, "{endpoints} {cooling:?} {max_tries}");
            assert!(queue.has_begun());
            queue.begin_round();
        }
    }
}

#[test]
fn a_later_round_has_the_order_of_the_first_one() {
    let now = Instant::now();
    let rotate = Ranking::new(Order::Rotate, 3);
    let cooldown = cooldown(3, &[], now);
    for wanted in [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]] {
        let mut queue = queue(&rotate, now, 0);
        for _ in 0..3 {
            assert_eq!(round(&mut queue, &cooldown, now), wanted);
            queue.begin_round();
        }
    }
}

#[test]
fn an_endpoint_that_begins_to_cool_is_passed_over_in_the_next_round() {
    let now = Instant::now();
    let cooldown = cooldown(2, &[], now);
    let order = Ranking::new(Order::Listed, 2);
    let mut queue = queue(&order, now, 0);
    let (first, claim) = queue.next(&cooldown, now).unwrap();
    assert_eq!((first, claim.failed(now, Duration::ZERO)), (0, FAILED));
    assert_eq!(round(&mut queue, &cooldown, now), [1]);
    queue.begin_round();
    assert_eq!(round(&mut queue, &cooldown, now), [1]);
    // Later the first one is tried again.
    queue.begin_round();
    let later = now + LONG;
    assert_eq!(round(&mut queue, &cooldown, later), [0, 1]);
}

#[test]
fn nothing_follows_when_it_is_closed_or_the_tries_are_used_up() {
    let now = Instant::now();
    let order = Ranking::new(Order::Listed, 2);
    let cooldown = cooldown(2, &[], now);
    let mut closed = queue(&order, now, 0);
    assert!(closed.next(&cooldown, now).is_some() && !closed.is_closed());
    closed.close();
    let mut used_up = queue(&order, now, 1);
    assert!(!used_up.is_closed() && used_up.next(&cooldown, now).is_some());
    for mut queue in [closed, used_up] {
        assert!(queue.is_closed());
        queue.begin_round();
        assert!(queue.is_closed() && queue.next(&cooldown, now).is_none());
    }
}
