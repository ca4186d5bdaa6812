//! Who goes when there are too many connections: a pure rule.
//!
//! Those that have had a request are established, in the order in which they had their first;
//! the others follow, the older ones first. The last ones go, but not at once: an honest newcomer has a request, and is through with it soon.
//! So beyond the limit a crowd of slow clients costs itself its connections, and
//! neither the established ones nor the newcomers theirs.

use std::cmp::Reverse;
use std::time::Duration;

use super::Stage;

/// How long a connection above the limit may say nothing.
const SILENT: Duration = Duration::from_millis(100);

/// How long it may take to send a request, once it has begun, or to take an answer.
const SLOW: Duration = Duration::from_secs(1);

/// How long it may keep a worker waiting for the body.
const SLOW_BODY: Duration = Duration::from_millis(250);

/// A connection, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Tells it from the others.
    pub inode: u64,
    /// It has had a request; its first one had this number among those of all.
    pub established: Option<u64>,
    /// Since it was found.
    pub age: Duration,
    /// Its foremost request's stage.
    pub stage: Option<Stage>,
    /// How long it has been there.
    pub in_stage_for: Duration,
    /// It has sent something that is no whole request yet.
    pub has_begun: bool,
}

impl Member {
    fn may_go(&self) -> bool {
        match self.stage {
            None if self.has_begun => self.in_stage_for >= SLOW,
            None => self.in_stage_for >= SILENT,
            Some(Stage::Receiving) => self.in_stage_for >= SLOW_BODY,
            Some(Stage::Sending) => self.in_stage_for >= SLOW,
            // It is our turn.
            Some(Stage::Queued | Stage::Asking) => false,
        }
    }
}

/// Those of the newest, beyond `limit`, that have had their time.
pub fn beyond(limit: usize, mut crowd: Vec<Member>) -> impl Iterator<Item = u64> {
    crowd.sort_by_key(|member| (member.established.unwrap_or(u64::MAX), Reverse(member.age)));
    crowd
        .into_iter()
        .skip(limit)
        .filter(Member::may_go)
        .map(|member| member.inode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(inode: u64, established: Option<u64>, age: u64, stage: Option<Stage>) -> Member {
        Member {
            inode,
            established,
            age: Duration::from_secs(age),
            stage,
            in_stage_for: Duration::from_secs(age),
            has_begun: false,
        }
    }

    fn cut(limit: usize, crowd: &[Member]) -> Vec<u64> {
        let mut cut: Vec<u64> = beyond(limit, crowd.to_vec()).collect();
        cut.sort_unstable();
        cut
    }

    #[test]
    fn the_newest_go() {
        let crowd = [4, 3, 2, 1].map(|age| member(age, None, age, None));
        assert_eq!(cut(2, &crowd), [1, 2]);
        assert_eq!(cut(4, &crowd), [0_u64; 0]);
    }

    #[test]
    fn who_has_been_served_stays_though_silent_ones_are_older() {
        let crowd = [
            member(1, Some(7), 5, None),
            member(2, None, 9, None),
            member(3, Some(8), 5, Some(Stage::Receiving)),
        ];
        assert_eq!(cut(2, &crowd), [2]);
        assert_eq!(cut(1, &crowd), [2, 3]);
    }

    #[test]
    fn an_established_one_never_goes_in_the_stead_of_a_newer_one_that_has_its_time() {
        let crowd = [
            member(1, Some(1), 60, Some(Stage::Sending)),
            member(2, Some(2), 0, Some(Stage::Receiving)),
            member(3, None, 0, None),
        ];
        assert_eq!(cut(1, &crowd), [0_u64; 0]);
    }

    #[test]
    fn everyone_has_his_time() {
        let table = [
            (None, false, 99, false),
            (None, false, 100, true),
            (None, true, 999, false),
            (None, true, 1000, true),
            (Some(Stage::Receiving), true, 249, false),
            (Some(Stage::Receiving), true, 250, true),
            (Some(Stage::Sending), false, 999, false),
            (Some(Stage::Sending), false, 1000, true),
            (Some(Stage::Queued), false, 100_000, false),
            (Some(Stage::Asking), false, 100_000, false),
        ];
        for (stage, has_begun, millis, goes) in table {
            let newest = Member {
                has_begun,
                in_stage_for: Duration::from_millis(millis),
                ..member(1, None, 0, stage)
            };
            let crowd = [newest, member(2, Some(1), 9, None)];
            assert_eq!(cut(1, &crowd).len(), usize::from(goes), "{newest:?}");
        }
    }
}
