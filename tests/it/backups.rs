//! Endpoints that are asked only when no other one has a usable answer (`-backups`).

use crate::common::{
    Gate,
    backend::{Backend, Endpoint, Refused, Step, never, reset, status},
    proxy::{Builder, Proxy, list},
};
use std::{fs, time::Duration};

const MILLI: Duration = Duration::from_millis(1);

type Mode = fn(&[&dyn Endpoint]) -> Builder;
const MODES: [Mode; 3] = [Proxy::serial, Proxy::fanout, Proxy::hedged];

fn with_backups(mode: Mode, endpoints: &[&dyn Endpoint], backups: &[&dyn Endpoint]) -> Builder {
    mode(endpoints).flag("-backups", list(backups))
}

/// Calls at each of these so far.
fn calls(backends: &[Backend]) -> Vec<usize> {
    backends.iter().map(Backend::calls).collect()
}

#[test]
fn a_backup_is_not_asked_while_another_endpoint_has_an_answer() {
    for mode in MODES {
        let sick = Backend::always(status(503));
        let well = Backend::always(status(200).body("well"));
        let backup = Backend::untouched();
        let proxy = with_backups(mode, &[&sick, &well], &[&backup]).start();
        let mut client = proxy.client();
        for _ in 0..50 {
            assert_eq!(client.get("/").body(), "well");
        }
        assert_eq!(backup.connections(), 0);
    }
}

#[test]
fn a_backup_is_asked_when_all_others_have_failed_and_has_the_next_number() {
    for mode in MODES {
        let (refused, sick) = (Refused::new(), Backend::always(status(503)));
        let backup = Backend::always(status(200).body("backup"));
        let proxy = with_backups(mode, &[&refused, &sick], &[&backup]).start();
        assert_eq!(proxy.get("/p").body(), "backup");
        assert_eq!((sick.calls(), backup.calls()), (1, 1));
        let line = proxy.wait_for_log("request /p served in ");
        let attempts = "by endpoint 2 (0: connection refused, 1: status 503 after ";
        assert!(line.contains(attempts), "{line}");
        let lines = proxy.log_with("configuring endpoint ");
        let wanted = [
            format!("configuring endpoint 0: \"{}\"", refused.url()),
            format!("configuring endpoint 1: \"{}\"", sick.url()),
            format!("configuring endpoint 2: \"{}\" (backup)", backup.url()),
        ];
        assert_eq!(lines, wanted);
    }
}

#[test]
fn in_serial_and_hedged_mode_backups_are_asked_one_after_the_other() {
    for mode in [Proxy::serial as Mode, Proxy::hedged] {
        let gate = Gate::closed();
        let (sick, refused) = (Backend::always(status(503)), Refused::new());
        let first = Backend::replies([status(503).after(&gate)]);
        let second = Backend::replies([status(200).body("second backup")]);
        let proxy = with_backups(mode, &[&sick, &refused], &[&first, &second]).start();
        let mut client = proxy.client();
        client.request("GET /", "");
        first.wait_for_calls(1);
        // Three times as long as another endpoint would be hedged after.
        assert!(client.hears_nothing_for(MILLI * 150));
        assert_eq!(second.connections(), 0);
        gate.open();
        assert_eq!(client.response().body(), "second backup");
    }
}

#[test]
fn a_hedge_never_goes_to_a_backup() {
    let gate = Gate::closed();
    let slow = [
        Backend::replies([status(503).after(&gate)]),
        Backend::replies([status(503).after(&gate)]),
    ];
    let backup = Backend::replies([status(200).body("backup")]);
    let proxy = with_backups(Proxy::hedged, &[&slow[0], &slow[1]], &[&backup]).start();
    let mut client = proxy.client();
    client.request("GET /p", "");
    slow[1].wait_for_calls(1);
    assert!(client.hears_nothing_for(MILLI * 150));
    assert_eq!(backup.connections(), 0);
    gate.open();
    assert_eq!(client.response().body(), "backup");
    let line = proxy.wait_for_log("request /p served in ");
    assert!(line.contains("by endpoint 2 (0: status 503"), "{line}");
    assert!(line.contains(", 1: hedged, status 503"), "{line}");
}

#[test]
fn a_single_slow_endpoint_is_not_hedged_by_a_backup() {
    let gate = Gate::closed();
    let slow = Backend::replies([status(200).body("slow").after(&gate)]);
    let backup = Backend::untouched();
    let proxy = with_backups(Proxy::hedged, &[&slow], &[&backup]).start();
    let mut client = proxy.client();
    client.request("GET /", "");
    slow.wait_for_calls(1);
    assert!(client.hears_nothing_for(MILLI * 150));
    gate.open();
    assert_eq!(client.response().body(), "slow");
}

#[test]
fn a_backup_waits_for_what_is_under_way_when_another_one_has_failed() {
    for mode in [Proxy::fanout as Mode, Proxy::hedged] {
        let gate = Gate::closed();
        let slow = Backend::replies([status(200).body("slow").after(&gate)]);
        let sick = Backend::replies([status(503)]);
        let backup = Backend::untouched();
        let proxy = with_backups(mode, &[&slow, &sick], &[&backup]).start();
        let mut client = proxy.client();
        client.request("GET /", "");
        proxy.wait_for_log(&format!("endpoint 1: {}: status 503", sick.url()));
        assert!(client.hears_nothing_for(MILLI * 150));
        gate.open();
        assert_eq!(client.response().body(), "slow");
    }
}

#[test]
fn in_a_fan_out_all_backups_are_asked_at_once() {
    let (others, gate) = (Gate::closed(), Gate::closed());
    let sick: Vec<_> = (0..2)
        .map(|_| Backend::replies([status(503).after(&others)]))
        .collect();
    let backups = [
        Backend::replies([never()]),
        Backend::replies([status(200).body("backup").after(&gate)]),
        Backend::replies([never()]),
    ];
    let proxy = with_backups(
        Proxy::fanout,
        &[&sick[0], &sick[1]],
        &[&backups[0], &backups[1], &backups[2]],
    )
    .start();
    let mut client = proxy.client();
    client.request("GET /p", "");
    for backend in &sick {
        backend.wait_for_calls(1);
    }
    assert!(client.hears_nothing_for(MILLI * 100));
    assert_eq!(calls(&backups), [0, 0, 0]);
    others.open();
    for backup in &backups {
        backup.wait_for_calls(1);
    }
    gate.open();
    assert_eq!(client.response().body(), "backup");
    proxy.wait_for_log("by endpoint 3 (");
    for backup in [&backups[0], &backups[2]] {
        backup.wait_until_left();
    }
}

#[test]
fn a_fan_out_with_one_endpoint_asks_its_backups_at_once() {
    let gate = Gate::closed();
    let sick = Backend::replies([status(503)]);
    let backups = [
        Backend::replies([never()]),
        Backend::replies([status(200).body("backup").after(&gate)]),
    ];
    let proxy = with_backups(Proxy::fanout, &[&sick], &[&backups[0], &backups[1]]).start();
    let mut client = proxy.client();
    client.request("GET /p", "");
    for backup in &backups {
        backup.wait_for_calls(1);
    }
    gate.open();
    assert_eq!(client.response().body(), "backup");
    let line = proxy.wait_for_log("request /p served in ");
    assert!(line.contains("by endpoint 2 (0: status 503"), "{line}");
    backups[0].wait_until_left();
}

#[test]
fn a_round_is_the_endpoints_and_then_the_backups() {
    // -rounds, -max-tries, calls at two endpoints and two backups.
    let table = [
        (1, 0, [1, 1, 1, 1]),
        (3, 0, [3, 3, 3, 3]),
        (3, 2, [1, 1, 0, 0]),
        (3, 3, [1, 1, 1, 0]),
        (3, 7, [2, 2, 2, 1]),
    ];
    for mode in MODES {
        for (rounds, max_tries, wanted) in table {
            let sick: Vec<_> = (0..4).map(|_| Backend::always(status(503))).collect();
            let proxy = with_backups(mode, &[&sick[0], &sick[1]], &[&sick[2], &sick[3]])
                .flag("-rounds", rounds.to_string())
                .flag("-round-delay", "1ms")
                .flag("-max-tries", max_tries.to_string())
                .start();
            assert_eq!(proxy.get("/").status(), 500);
            assert_eq!(calls(&sick), wanted, "{rounds} rounds, {max_tries} tries");
        }
    }
}

#[test]
fn backups_come_first_when_all_others_are_passed_over() {
    for mode in MODES {
        let sick = Backend::always(status(503));
        let backup = Backend::replies([
            status(200).body("after the others"),
            status(200).body("first"),
            status(200).body("first"),
            status(503),
        ]);
        let proxy = with_backups(mode, &[&sick], &[&backup])
            .flag("-max-fails", "1")
            .flag("-cooldown", "1h")
            .start();
        let mut client = proxy.client();
        assert_eq!(client.get("/1").body(), "after the others");
        assert_eq!(client.get("/2").body(), "first");
        assert_eq!(client.get("/3").body(), "first");
        assert_eq!((sick.calls(), backup.calls()), (1, 3));
        // The backup fails: the other one is asked though it is passed over.
        assert_eq!(client.get("/4").status(), 500);
        assert_eq!((sick.calls(), backup.calls()), (2, 4));
    }
}

#[test]
fn when_backups_are_passed_over_too_all_are_asked_in_their_order() {
    for mode in MODES {
        let sick: Vec<_> = (0..2).map(|_| Backend::always(status(503))).collect();
        let backup = Backend::replies([status(503), status(200).body("back")]);
        let proxy = with_backups(mode, &[&sick[0], &sick[1]], &[&backup])
            .flag("-max-fails", "1")
            .flag("-cooldown", "1h")
            .start();
        assert_eq!(proxy.get("/1").status(), 500);
        assert_eq!(proxy.get("/2").body(), "back");
        assert_eq!(calls(&sick), [2, 2]);
    }
}

#[test]
fn a_backup_that_is_passed_over_is_left_out_when_others_have_failed() {
    for mode in [Proxy::serial as Mode, Proxy::hedged] {
        let (sick, well) = (|| status(503), || status(200).body("well"));
        // Never twice in a row.
        let flaky = Backend::replies([sick(), well(), sick(), well(), sick()]);
        let first = Backend::replies([sick(), sick()]);
        let second = Backend::replies([well(), well(), well()]);
        let proxy = with_backups(mode, &[&flaky], &[&first, &second])
            .flag("-max-fails", "2")
            .flag("-cooldown", "1h")
            .start();
        let mut client = proxy.client();
        for _ in 0..5 {
            assert_eq!(client.get("/").body(), "well");
        }
        assert_eq!((flaky.calls(), first.calls(), second.calls()), (5, 2, 3));
    }
}

#[test]
fn each_tier_is_ordered_by_itself() {
    let sick: Vec<_> = (0..2).map(|_| Backend::always(status(503))).collect();
    let backups: Vec<_> = (0..2)
        .map(|number| Backend::always(status(200).body(format!("backup {number}"))))
        .collect();
    let proxy = with_backups(
        Proxy::serial,
        &[&sick[0], &sick[1]],
        &[&backups[0], &backups[1]],
    )
    .flag("-order", "rotate")
    .start();
    let mut client = proxy.client();
    for number in [0, 1, 0, 1] {
        assert_eq!(client.get("/").body(), format!("backup {number}"));
    }
}

#[test]
fn what_must_not_be_carried_out_twice_goes_to_a_backup_only_if_it_was_not_sent() {
    let failures: [fn() -> Step; 2] = [|| status(503), reset];
    for mode in MODES {
        for failure in failures {
            let sick = Backend::replies([failure()]);
            let backup = Backend::untouched();
            let proxy = with_backups(mode, &[&sick], &[&backup])
                .flag("-idempotent-only", "true")
                .start();
            assert_eq!(proxy.post("/", "body").status(), 500);
            assert_eq!(backup.connections(), 0);
        }
        let refused = Refused::new();
        let backup = Backend::replies([status(200).body("backup")]);
        let proxy = with_backups(mode, &[&refused], &[&backup])
            .flag("-idempotent-only", "true")
            .start();
        assert_eq!(proxy.post("/", "body").body(), "backup");
        assert_eq!(backup.request().body, b"body");
    }
}

#[test]
fn the_best_answer_may_be_a_backup_s() {
    for mode in MODES {
        let sick = Backend::always(status(503).body("sick"));
        let backup = Backend::always(status(404).body("missing"));
        let proxy = with_backups(mode, &[&sick], &[&backup])
            .flag("-terminal-responses", "200")
            .flag("-on-exhausted", "best")
            .start();
        assert_eq!(proxy.get("/").body(), "missing");
        proxy.wait_for_log("returning 404 of endpoint 1");
    }
}

#[test]
fn backups_may_stand_in_a_file_with_header_lines_of_their_own() {
    let sick = Backend::always(status(503));
    let backup = Backend::replies([status(200).body("backup")]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("backups");
    let text = format!("# paid for\n{}\n    X-Api-Key: secret\n", backup.url());
    fs::write(&file, text).unwrap();
    let proxy = Proxy::serial(&[&sick])
        .flag("-backups", format!("@{}", file.display()))
        .start();
    assert_eq!(proxy.get("/").body(), "backup");
    assert_eq!(backup.request().header("X-Api-Key"), Some("secret"));
    assert_eq!(proxy.log_with(" (backup)").len(), 1);
}
