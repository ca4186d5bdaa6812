//! Which answers are usable, case by case: all combinations of status, `Retry-After`, body and
//! mode, and hundreds of random ones against a model.

use crate::common::{
    Gate,
    backend::{Backend, Endpoint, Received, Step, status},
    eventually,
    proxy::{Builder, Proxy},
};

type Mode = fn(&[&dyn Endpoint]) -> Builder;

/// What one endpoint answers.
#[derive(Clone, Copy, Debug)]
struct Answer {
    code: u16,
    has_error: bool,
    asks_for_time: bool,
}

impl Answer {
    fn is_usable(self) -> bool {
        matches!(self.code, 100..=428 | 430..=499) && !self.has_error
    }

    /// Of two that are not usable, the one with the smaller rank is better.
    fn rank(self) -> (u16, bool, bool) {
        // The body of an answer whose status says enough is not looked at.
        let is_unusable_body = self.has_error && self.code < 429;
        let is_last = is_unusable_body || self.asks_for_time || self.code == 429;
        (self.code / 100, is_last, self.asks_for_time)
    }

    fn step(self, endpoint: usize) -> Step {
        let step = status(self.code).header("X-Who", &endpoint.to_string());
        let step = if self.asks_for_time {
            step.header("Retry-After", "3000")
        } else {
            step
        };
        step.body(if self.has_error { "an error" } else { "fine" })
    }
}

fn flags(builder: Builder) -> Builder {
    builder
        .flag("-not-terminal", "429")
        .flag("-unusable-body", "error")
}

fn every_combination(mode: Mode) {
    for code in [200, 404, 429, 503] {
        for (has_error, asks_for_time) in
            [(false, false), (false, true), (true, false), (true, true)]
        {
            let answer = Answer {
                code,
                has_error,
                asks_for_time,
            };
            let gate = Gate::closed();
            let first = Backend::always(answer.step(0));
            let second = Backend::always(status(200).header("X-Who", "1").after(&gate));
            let proxy = flags(mode(&[&first, &second]))
                .flag("-max-retry-after", "1h")
                .start();
            let mut client = proxy.client();
            client.request("GET /", "");
            if answer.is_usable() {
                assert_eq!(client.response().header("x-who"), Some("0"), "{answer:?}");
                gate.open();
                continue;
            }
            let line = proxy.wait_for_log("endpoint 0: http");
            gate.open();
            assert_eq!(client.response().header("x-who"), Some("1"), "{answer:?}");
            let reason = match code {
                429 | 503 => format!("status {code}"),
                _ => "unusable body".to_owned(),
            };
            let again = if asks_for_time {
                ", again in 50m0s"
            } else {
                ""
            };
            assert!(
                line.contains(&format!(": {reason}{again} (GET /")),
                "{line}"
            );
            assert_eq!(client.get("/").header("x-who"), Some("1"));
            if asks_for_time {
                proxy.wait_for_log("passed over for 50m0s");
                assert_eq!(first.calls(), 1, "{answer:?}");
            } else {
                // In a fan-out it may lose before it is asked.
                let asked_again = || {
                    client.get("/");
                    first.calls()
                };
                eventually("calls", asked_again, |calls| *calls >= 2);
            }
        }
    }
}

#[test]
fn every_combination_in_serial_mode() {
    every_combination(Proxy::serial);
}

#[test]
fn every_combination_in_a_fan_out() {
    every_combination(Proxy::fanout);
}

#[test]
fn every_combination_with_hedges() {
    // The other endpoint is asked when the first one has failed, and not before.
    every_combination(|endpoints| Proxy::serial(endpoints).flag("-hedge-after", "1h"));
}

/// What a request comes to where one endpoint is asked after the other: the endpoint, and whether
/// its answer is usable.
fn model(answers: &[Answer], passed_over: &mut [bool]) -> (usize, bool) {
    let all_are = passed_over.iter().all(|passed_over| *passed_over);
    let mut asked = Vec::new();
    for (endpoint, answer) in answers.iter().enumerate() {
        if passed_over[endpoint] && !all_are {
            continue;
        }
        if answer.is_usable() {
            passed_over[endpoint] = false;
            return (endpoint, true);
        }
        passed_over[endpoint] |= answer.asks_for_time;
        asked.push((answer.rank(), endpoint));
    }
    (asked.iter().min().unwrap().1, false)
}

const ENDPOINTS: usize = 3;

/// Endpoints that answer what their part of the path says.
fn scripted() -> [Backend; ENDPOINTS] {
    [0, 1, 2].map(|endpoint| {
        Backend::choosing(move |request: &Received| {
            let part = request.target.split('/').nth(endpoint + 1).unwrap();
            let fields: Vec<u16> = part
                .split('-')
                .map(|field| field.parse().unwrap())
                .collect();
            let answer = Answer {
                code: fields[0],
                has_error: fields[1] == 1,
                asks_for_time: fields[2] == 1,
            };
            answer.step(endpoint)
        })
    })
}

fn target(answers: &[Answer]) -> String {
    let part = |answer: &Answer| {
        let flag = u8::from;
        format!(
            "/{}-{}-{}",
            answer.code,
            flag(answer.has_error),
            flag(answer.asks_for_time)
        )
    };
    answers.iter().map(part).collect()
}

/// Xorshift: the same numbers each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn answer(&mut self) -> Answer {
        let codes = [200, 203, 302, 404, 410, 429, 429, 500, 503, 503];
        let at = usize::try_from(self.below(10)).unwrap();
        Answer {
            code: codes[at],
            has_error: self.below(2) == 0,
            asks_for_time: self.below(4) == 0,
        }
    }
}

const CASES: usize = 400;

/// Random requests, of which `check` is told what was answered and by which endpoint.
fn random_requests(builder: Builder, mut check: impl FnMut(&[Answer], u16, usize)) {
    let proxy = flags(builder).flag("-on-exhausted", "best").start();
    let mut client = proxy.client();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..CASES {
        let answers = [(); ENDPOINTS].map(|()| random.answer());
        let answer = client.get(&target(&answers));
        let endpoint = answer.header("x-who").unwrap().parse().unwrap();
        check(&answers, answer.status(), endpoint);
    }
}

#[test]
fn hundreds_of_random_requests_come_to_what_the_model_says() {
    let modes: [Mode; 2] = [Proxy::serial, |endpoints| {
        Proxy::serial(endpoints).flag("-hedge-after", "1h")
    }];
    for mode in modes {
        let [a, b, c] = scripted();
        let mut passed_over = [false; ENDPOINTS];
        let mut usable = 0;
        let builder = mode(&[&a, &b, &c]).flag("-max-retry-after", "1h");
        random_requests(builder, |answers, code, endpoint| {
            let before = passed_over;
            let (wanted, is_usable) = model(answers, &mut passed_over);
            assert_eq!(endpoint, wanted, "{answers:?}, passed over {before:?}");
            assert_eq!(code, answers[endpoint].code);
            usable += usize::from(is_usable);
        });
        assert!((CASES / 10..CASES * 9 / 10).contains(&usable), "{usable}");
    }
}

#[test]
fn hundreds_of_random_requests_in_a_fan_out_come_to_a_usable_answer_or_to_the_best() {
    let [a, b, c] = scripted();
    let fanout = Proxy::fanout(&[&a, &b, &c]);
    // Whether a loser is counted is a matter of chance: nothing is passed over here.
    random_requests(
        fanout.flag("-max-retry-after", "0"),
        |answers, code, endpoint| {
            let won = answers[endpoint];
            assert_eq!(code, won.code);
            if answers.iter().any(|answer| answer.is_usable()) {
                assert!(won.is_usable(), "{answers:?}: {endpoint}");
            } else {
                let rank = |answer: &Answer| {
                    Answer {
                        asks_for_time: false,
                        ..*answer
                    }
                    .rank()
                };
                let best = answers.iter().map(rank).min().unwrap();
                assert_eq!(rank(&won), best, "{answers:?}: {endpoint}");
            }
        },
    );
}
