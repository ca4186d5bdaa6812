use super::*;

#[test]
fn backups_are_endpoints_behind_others() {
    let both = config(&["-e=http://a,http://b", "-b= http://c , https://d/x"]).unwrap();
    assert_eq!((both.listed.endpoints.len(), both.listed.backups), (4, 2));
    assert_eq!(both.listed.endpoints[3].url.authority(), "d");
    assert_eq!(config(&["-e=http://a"]).unwrap().listed.backups, 0);
    assert_eq!(
        message(&["-backups=http://a"]),
        "-endpoints is missing (-backups are asked only when none of the endpoints has a usable \
         answer)"
    );
    assert_eq!(
        message(&["-e=http://a", "-backups=ftp://b"]),
        message(&["-e=http://a", "-endpoints=ftp://b"]).replace("-endpoints", "-backups")
    );
}

#[test]
fn tries_and_rounds_are_numbers() {
    let table = [
        (
            "-max-t=-1",
            "-max-tries: \"-1\" is not a number from 0 upwards (0: no limit)",
        ),
        (
            "-rounds=0",
            "-rounds: \"0\" is not a number from 1 upwards (1: each endpoint once)",
        ),
        (
            "-round-d=-1s",
            "-round-delay: \"-1s\" is less than zero (write 5s, 300ms, 1m30s; 0: no pause)",
        ),
    ];
    for (word, wanted) in table {
        assert_eq!(message(&["-e=http://a", word]), wanted);
    }
    let config = config(&["-e=http://a", "-max-tries=0", "-rounds=4294967295"]).unwrap();
    assert_eq!(config.policy.max_tries, None);
    assert_eq!(config.policy.rounds.count, u32::MAX);
    let config = self::config(&["-e=http://a", "-round-delay=0"]).unwrap();
    assert_eq!(config.policy.rounds.delay, Duration::ZERO);
}
