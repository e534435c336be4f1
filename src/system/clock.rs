//! The wall clock, for people: nothing is decided by it, as it may be wrong at boot.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time since 1970.
#[must_use]
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A time since 1970 in UTC, as RFC 3339 writes it, to the second.
#[must_use]
pub fn utc(since_1970: Duration) -> String {
    let whole = Duration::from_secs(since_1970.as_secs());
    der::DateTime::from_unix_duration(whole)
        .map_or_else(|_| format!("{} s after 1970", whole.as_secs()), |date| date.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_people_do() {
        assert_eq!(utc(Duration::from_millis(1_795_262_399_999)), "2026-11-21T11:59:59Z");
        assert_eq!(utc(Duration::from_secs(u64::MAX)), "18446744073709551615 s after 1970");
    }
}
