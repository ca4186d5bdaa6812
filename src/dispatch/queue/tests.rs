use std::time::Duration;

use super::*;
use crate::dispatch::cooldown::PassedOver;
use crate::dispatch::policy::{CooldownConfig, Order};

const LONG: Duration = Duration::from_secs(3600);

const FAILED: Option<PassedOver> = Some(PassedOver::Failed(1, LONG));

/// Some endpoints and backups, numbered in that order, of which some are passed over.
struct Setting {
    ranking: Ranking,
    cooldown: Cooldown,
    tries: Tries,
    now: Instant,
}

impl Setting {
    fn new(order: Order, endpoints: usize, backups: usize, passed_over: &[usize]) -> Self {
        let (count, now) = (endpoints + backups, Instant::now());
        let rule = CooldownConfig {
            max_fails: NonZeroU32::MIN,
            length: LONG,
        };
        let cooldown = Cooldown::new(Some(rule), count);
        for endpoint in passed_over {
            let permit = cooldown.permit(*endpoint, now).unwrap();
            assert_eq!(permit.failed(now, Duration::ZERO), FAILED);
        }
        Self {
            ranking: Ranking::new(order, count, backups),
            cooldown,
            tries: Tries::new(None),
            now,
        }
    }

    fn known(&self) -> Known<'_> {
        Known {
            ranking: &self.ranking,
            cooldown: &self.cooldown,
            tries: &self.tries,
        }
    }

    fn queue(&self, max_tries: u32) -> Queue {
        let tries = Tries::new(NonZeroU32::new(max_tries)).left.into_inner();
        self.tries.left.store(tries, Ordering::Relaxed);
        Queue::new(self.ranking.sequence(self.now))
    }

    /// What comes, beside this, until something has to be waited for or the round is over.
    fn all(&self, queue: &mut Queue, beside: Beside) -> Vec<usize> {
        std::iter::from_fn(|| Some(queue.next(self.known(), self.now, beside)?.0)).collect()
    }

    /// The round that has begun, one endpoint after the other.
    fn round(&self, queue: &mut Queue) -> Vec<usize> {
        self.all(queue, Beside::Nothing)
    }
}

#[test]
fn rounds_go_through_all_endpoints_that_are_not_passed_over() {
    // How many endpoints and backups there are, which ones are passed over, -max-tries, and what
    // three rounds are.
    type Row<'a> = (usize, usize, &'a [usize], u32, [&'a [usize]; 3]);
    let table: [Row<'_>; 21] = [
        (1, 0, &[], 0, [&[0], &[0], &[0]]),
        (3, 0, &[], 0, [&[0, 1, 2], &[0, 1, 2], &[0, 1, 2]]),
        (3, 0, &[], 2, [&[0, 1], &[], &[]]),
        (3, 0, &[], 4, [&[0, 1, 2], &[0], &[]]),
        (3, 0, &[], 6, [&[0, 1, 2], &[0, 1, 2], &[]]),
        (1, 0, &[], 2, [&[0], &[0], &[]]),
        (3, 0, &[1], 0, [&[0, 2], &[0, 2], &[0, 2]]),
        (3, 0, &[0, 1], 2, [&[2], &[2], &[]]),
        (3, 0, &[0, 1, 2], 0, [&[0, 1, 2], &[0, 1, 2], &[0, 1, 2]]),
        (2, 0, &[0, 1], 3, [&[0, 1], &[0], &[]]),
        (1, 1, &[], 0, [&[0, 1], &[0, 1], &[0, 1]]),
        (2, 2, &[], 0, [&[0, 1, 2, 3], &[0, 1, 2, 3], &[0, 1, 2, 3]]),
        (2, 2, &[], 7, [&[0, 1, 2, 3], &[0, 1, 2], &[]]),
        (2, 2, &[], 2, [&[0, 1], &[], &[]]),
        (2, 2, &[1, 2], 0, [&[0, 3], &[0, 3], &[0, 3]]),
        (2, 2, &[2, 3], 0, [&[0, 1], &[0, 1], &[0, 1]]),
        // All others are passed over: the backups come first, the others behind them.
        (
            2,
            2,
            &[0, 1],
            0,
            [&[2, 3, 0, 1], &[2, 3, 0, 1], &[2, 3, 0, 1]],
        ),
        (2, 2, &[0, 1, 2], 0, [&[3, 0, 1], &[3, 0, 1], &[3, 0, 1]]),
        (2, 2, &[0, 1], 3, [&[2, 3, 0], &[], &[]]),
        (
            2,
            2,
            &[0, 1, 2, 3],
            0,
            [&[0, 1, 2, 3], &[0, 1, 2, 3], &[0, 1, 2, 3]],
        ),
        (1, 1, &[0, 1], 3, [&[0, 1], &[0], &[]]),
    ];
    for (endpoints, backups, passed_over, max_tries, wanted) in table {
        let setting = Setting::new(Order::Listed, endpoints, backups, passed_over);
        let mut queue = setting.queue(max_tries);
        assert!(!queue.has_begun());
        for wanted in wanted {
            let got = setting.round(&mut queue);
            let row = format!("{endpoints} {backups} {passed_over:?} {max_tries}");
            assert_eq!(got, wanted, "{row}");
            assert!(queue.has_begun());
            queue.begin_round();
        }
    }
}

#[test]
fn what_must_not_overlap_waits() {
    // Endpoints and backups, the passed over ones, and what may overlap: beside another attempt
    // that has failed, and as a hedge.
    type Row<'a> = (
        usize,
        usize,
        &'a [usize],
        &'a [&'a [usize]],
        &'a [&'a [usize]],
    );
    let table: [Row<'_>; 6] = [
        (2, 0, &[], &[&[0, 1]], &[&[0, 1]]),
        (2, 2, &[], &[&[0, 1], &[2, 3]], &[&[0, 1], &[2], &[3]]),
        (2, 2, &[0], &[&[1], &[2, 3]], &[&[1], &[2], &[3]]),
        (2, 2, &[0, 1], &[&[2, 3], &[0, 1]], &[&[2], &[3], &[0, 1]]),
        (2, 1, &[0, 1, 2], &[&[0, 1], &[2]], &[&[0, 1], &[2]]),
        (1, 3, &[], &[&[0], &[1, 2, 3]], &[&[0], &[1], &[2], &[3]]),
    ];
    for (endpoints, backups, passed_over, others, slow) in table {
        for (beside, wanted) in [(Beside::Others, others), (Beside::Slow, slow)] {
            let setting = Setting::new(Order::Listed, endpoints, backups, passed_over);
            let mut queue = setting.queue(0);
            for wanted in wanted {
                let next = queue.next(setting.known(), setting.now, Beside::Nothing);
                let mut got = vec![next.unwrap().0];
                got.extend(setting.all(&mut queue, beside));
                assert_eq!(
                    got, *wanted,
                    "{endpoints} {backups} {passed_over:?} {beside:?}"
                );
            }
            assert!(setting.round(&mut queue).is_empty());
        }
    }
}

/// What a round is, written down once more.
fn model(endpoints: &[usize], backups: &[usize], passed_over: &[usize]) -> Vec<usize> {
    let may = |all: &[usize]| -> Vec<usize> {
        let may = all.iter().filter(|number| !passed_over.contains(number));
        may.copied().collect()
    };
    match (&may(endpoints)[..], &may(backups)[..]) {
        ([], []) => [endpoints, backups].concat(),
        ([], backups) => [backups, endpoints].concat(),
        (endpoints, backups) => [endpoints, backups].concat(),
    }
}

#[test]
fn random_cases_are_as_in_the_model() {
    // Marsaglia's xorshift: the same cases each time.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below
    };
    for _ in 0..5_000 {
        let (endpoints, backups) = (1 + random(4), random(4));
        let passed_over: Vec<_> = (0..endpoints + backups)
            .filter(|_| random(2) == 0)
            .collect();
        let order = [Order::Listed, Order::Rotate, Order::Fastest][random(3)];
        let setting = Setting::new(order, endpoints, backups, &passed_over);
        let max_tries = random(20);
        // The orders that a request gets, of a ranking in the same state.
        let twin = Setting::new(order, endpoints, backups, &passed_over).ranking;
        let one: Vec<_> = twin.sequence(setting.now).collect();
        let two: Vec<_> = twin.backups(setting.now).collect();
        let round = model(&one, &two, &passed_over);
        let mut wanted = round.repeat(4);
        if max_tries > 0 {
            wanted.truncate(max_tries);
        }
        let mut queue = setting.queue(max_tries.try_into().unwrap());
        let mut got = Vec::new();
        for _ in 0..4 {
            got.extend(setting.round(&mut queue));
            queue.begin_round();
        }
        assert_eq!(
            got, wanted,
            "{endpoints} {backups} {passed_over:?} {max_tries} {order:?}"
        );
    }
}

#[test]
fn a_later_round_has_the_order_of_the_first_one() {
    let setting = Setting::new(Order::Rotate, 3, 2, &[]);
    for wanted in [[0, 1, 2, 3, 4], [1, 2, 0, 4, 3], [2, 0, 1, 3, 4]] {
        let mut queue = setting.queue(0);
        for _ in 0..3 {
            assert_eq!(setting.round(&mut queue), wanted);
            queue.begin_round();
        }
    }
}

#[test]
fn an_endpoint_that_begins_to_cool_is_passed_over_in_the_next_round() {
    let setting = Setting::new(Order::Listed, 2, 0, &[]);
    let mut queue = setting.queue(0);
    let next = queue.next(setting.known(), setting.now, Beside::Nothing);
    let (first, permit) = next.unwrap();
    assert_eq!(first, 0);
    assert_eq!(permit.failed(setting.now, Duration::ZERO), FAILED);
    assert_eq!(setting.round(&mut queue), [1]);
    queue.begin_round();
    assert_eq!(setting.round(&mut queue), [1]);
    // Later the first one is tried again.
    queue.begin_round();
    let later = queue.next(setting.known(), setting.now + LONG, Beside::Nothing);
    assert_eq!(later.unwrap().0, 0);
}

#[test]
fn what_one_round_has_passed_over_is_not_asked_twice_in_the_next() {
    let setting = Setting::new(Order::Listed, 2, 0, &[0]);
    let mut queue = setting.queue(0);
    assert_eq!(setting.round(&mut queue), [1]);
    let permit = setting.cooldown.permit(1, setting.now).unwrap();
    assert_eq!(permit.failed(setting.now, Duration::ZERO), FAILED);
    queue.begin_round();
    assert_eq!(setting.round(&mut queue), [0, 1]);
}

#[test]
fn nothing_follows_when_it_is_closed_or_the_tries_are_used_up() {
    let setting = Setting::new(Order::Listed, 2, 1, &[]);
    let next = |queue: &mut Queue| queue.next(setting.known(), setting.now, Beside::Nothing);
    let mut closed = setting.queue(0);
    assert!(next(&mut closed).is_some() && !closed.is_closed());
    closed.close();
    let mut used_up = setting.queue(1);
    assert!(!used_up.is_closed() && next(&mut used_up).is_some());
    for mut queue in [closed, used_up] {
        assert!(queue.is_closed());
        queue.begin_round();
        assert!(queue.is_closed() && next(&mut queue).is_none());
    }
}

#[test]
fn another_one_could_start_beside_a_slow_one_only_where_it_would() {
    // -max-tries, which ones are passed over, how many have begun, and whether one is left.
    for (max_tries, passed_over, begun, wanted) in [
        (0, &[][..], 1, true),
        (0, &[][..], 2, false),
        (1, &[][..], 1, false),
        (0, &[1][..], 1, false),
        (0, &[0][..], 1, false),
    ] {
        let setting = Setting::new(Order::Listed, 2, 1, passed_over);
        let mut queue = setting.queue(max_tries);
        for _ in 0..begun {
            queue.next(setting.known(), setting.now, Beside::Nothing);
        }
        let has = queue.has_another(setting.known(), setting.now);
        let starts = queue.next(setting.known(), setting.now, Beside::Slow);
        assert_eq!((has, starts.is_some()), (wanted, wanted));
    }
}
