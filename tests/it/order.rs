//! Which endpoint is asked first (`-order`).

use crate::common::{
    backend::{Backend, status},
    proxy::Proxy,
};
use std::time::Duration;

#[test]
fn listed_begins_with_endpoint_0_each_time() {
    let first = Backend::always(status(200).body("0"));
    let second = Backend::untouched();
    for order in [None, Some("listed")] {
        let mut builder = Proxy::serial(&[&first, &second]);
        if let Some(order) = order {
            builder = builder.flag("-order", order);
        }
        let proxy = builder.start();
        for _ in 0..5 {
            assert_eq!(proxy.get("/").body(), "0");
        }
    }
}

#[test]
fn rotate_begins_with_the_next_one_each_time_and_goes_on_from_there() {
    let first = Backend::always(status(200).body("0"));
    let sick = Backend::always(status(503));
    let third = Backend::always(status(200).body("2"));
    let proxy = Proxy::serial(&[&first, &sick, &third])
        .flag("-order", "rotate")
        .start();
    let mut client = proxy.client();
    let answers: String = (0..9).map(|_| client.get("/").body()).collect();
    assert_eq!(answers, "022022022");
    assert_eq!((first.calls(), sick.calls(), third.calls()), (3, 3, 6));
}

#[test]
fn fastest_moves_to_the_quicker_endpoint() {
    let slow = Backend::always(status(200).body("slow").delayed(Duration::from_millis(150)));
    let quick = Backend::always(status(200).body("quick"));
    let proxy = Proxy::serial(&[&slow, &quick])
        .flag("-order", "fastest")
        .start();
    let mut client = proxy.client();
    // The first one is asked first until the other one's time has been measured.
    assert_eq!(client.get("/").body(), "slow");
    while client.get("/").body() == "slow" {}
    assert!(slow.calls() < 20, "{}", slow.calls());
    let before = slow.calls();
    for _ in 0..100 {
        client.get("/");
    }
    assert!(slow.calls() <= before + 1, "{}", slow.calls());
}
