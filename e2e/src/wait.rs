//! Waiting for something to become true, with a failure that says what was seen last.

use std::fmt::{Debug, Display};
use std::time::{Duration, Instant};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// What a look came to.
pub type Look<T> = Result<T, String>;

/// It did not become true in time.
#[derive(Debug, thiserror::Error)]
#[error("{what}: not within {timeout:?}; last seen: {last_seen}")]
pub struct Late {
    /// What was waited for.
    pub what: String,
    /// How long.
    pub timeout: Duration,
    /// What the last look found instead.
    pub last_seen: String,
}

/// Looks every 50 ms until `look` is `Ok` or `timeout` is over. The error of a look says what was seen instead; a look
/// that hangs is cut off at the timeout.
pub async fn eventually<T, F>(timeout: Duration, what: impl Display, mut look: F) -> Result<T, Late>
where
    F: AsyncFnMut() -> Look<T>,
{
    let start = Instant::now();
    let mut last_seen = "nothing, the first look did not finish".to_owned();
    loop {
        let left = timeout.saturating_sub(start.elapsed());
        match tokio::time::timeout(left, look()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(seen)) => last_seen = seen,
            Err(_) => {}
        }
        if start.elapsed() + PAUSE >= timeout {
            return Err(Late {
                what: what.to_string(),
                timeout,
                last_seen,
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// `Ok` if `seen` is what was wanted, otherwise what was seen: the usual last line of a look.
pub fn wanted<T: Debug + PartialEq>(seen: T, wanted: &T) -> Look<T> {
    if seen == *wanted {
        Ok(seen)
    } else {
        Err(format!("{seen:?} instead of {wanted:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_late_look_says_what_it_saw_last() {
        let mut looks = 0;
        let late = eventually(Duration::from_millis(150), "three replicas", async || {
            looks += 1;
            wanted(looks.min(2), &3)
        });
        let message = late.await.unwrap_err().to_string();
        assert_eq!(message, "three replicas: not within 150ms; last seen: 2 instead of 3");
    }

    #[tokio::test]
    async fn a_look_that_hangs_is_cut_off() {
        let look = async || -> Look<()> { std::future::pending().await };
        let late = eventually(Duration::from_millis(50), "an answer", look)
            .await
            .unwrap_err();
        assert!(late.last_seen.contains("did not finish"), "{late}");
    }
}
