//! What becomes of each request: pause, status, and whether it hangs or breaks off.
//!
//! Decided when the request arrives, from its number alone. Pure.

use std::time::Duration;

use super::chance::{Dice, Draw};
use super::flags::Options;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How long the answer takes; `None`: no pause was asked for.
    pub pause: Option<Duration>,
    /// The status of the answer.
    pub code: u16,
    /// What is wrong with it besides.
    pub fault: Option<Fault>,
}

/// What is wrong with an answer besides its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is none.
    Hangs,
    /// It breaks off in the middle of its body.
    Breaks,
}

impl Plan {
    /// The plan for the request with this number, from 0 upwards.
    pub fn new(options: &Options, seed: u64, request: u64) -> Self {
        let dice = Dice::new(seed, request);
        let pause = match &options.pauses {
            Some(pauses) => Some(pauses.pick(dice, Draw::Pause)),
            None => options
                .delay
                .then(|| Duration::from_micros(dice.below(1_000_000, Draw::Pause))),
        };
        if request < options.ok_after {
            return Self {
                pause,
                code: 503,
                fault: None,
            };
        }
        let code = match &options.codes {
            Some(codes) => codes.pick(dice, Draw::Code).0,
            None if options.errors && dice.below(4, Draw::Code) == 0 => 500,
            None => 200,
        };
        let fault = if dice.happens(options.hang_rate, Draw::Hang) {
            Some(Fault::Hangs)
        } else if dice.happens(options.break_rate, Draw::Break) {
            Some(Fault::Breaks)
        } else {
            None
        };
        Self { pause, code, fault }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plans(options: &Options) -> Vec<Plan> {
        (0..4000)
            .map(|request| Plan::new(options, 1, request))
            .collect()
    }

    #[test]
    fn one_answer_in_four_is_an_error_and_half_take_longer_than_half_a_second() {
        let options = Options {
            delay: true,
            errors: true,
            ..Options::default()
        };
        let plans = plans(&options);
        let errors = plans.iter().filter(|plan| plan.code == 500).count();
        // Seven standard deviations either way.
        assert!((808..=1192).contains(&errors), "{errors} of 4000");
        let half = Duration::from_millis(500);
        let long = plans.iter().filter(|plan| plan.pause >= Some(half));
        let long = long.count();
        assert!((1778..=2222).contains(&long), "{long} of 4000");
        assert!(plans.iter().all(|plan| plan.pause < Some(half * 2)));
    }

    #[test]
    fn the_first_answers_are_503_and_whole() {
        let options = Options {
            ok_after: 3,
            hang_rate: "1".parse().unwrap(),
            ..Options::default()
        };
        let plans = plans(&options);
        assert!(
            plans[..3]
                .iter()
                .all(|plan| plan.code == 503 && plan.fault.is_none())
        );
        let hangs = Some(Fault::Hangs);
        assert!(
            plans[3..]
                .iter()
                .all(|plan| plan.code == 200 && plan.fault == hangs)
        );
    }

    #[test]
    fn a_flag_more_changes_nothing_about_the_others() {
        let alone = Options {
            codes: Some("200:0.5,503:0.5".parse().unwrap()),
            ..Options::default()
        };
        let more = Options {
            codes: alone.codes.clone(),
            pauses: Some("1ms:0.5,2ms:0.5".parse().unwrap()),
            break_rate: "0.5".parse().unwrap(),
            ..Options::default()
        };
        let codes = |plans: Vec<Plan>| plans.iter().map(|plan| plan.code).collect::<Vec<_>>();
        assert_eq!(codes(plans(&alone)), codes(plans(&more)));
    }
}
