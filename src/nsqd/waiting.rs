//! Waiting for an nsqd, or an nsqlookupd, that is not there: on the thread that wants it.

use std::time::{Duration, Instant};

use anyhow::{Error, Result, bail};
use nsq_protocol::thread::StopToken;

/// How long between two tries: how much later than nsqd itself its clients work, at most.
const TRY_EVERY: Duration = Duration::from_millis(500);

/// How long a start waits, and what ends it before.
#[derive(Clone, Debug)]
pub struct StartWait {
    /// After which the start fails; `None`: never. Zero: there is one try.
    pub timeout: Option<Duration>,
    /// Ends the wait.
    pub stop: StopToken,
}

/// Why a try did not work.
#[derive(Debug)]
pub(crate) enum NotThere {
    /// Another one may.
    Yet(Error),
    /// Somebody has to change something first.
    AtAll(Error),
}

impl From<nsq_protocol::Error> for NotThere {
    fn from(error: nsq_protocol::Error) -> Self {
        if error.is_temporary() { Self::Yet(error.into()) } else { Self::AtAll(error.into()) }
    }
}

impl StartWait {
    /// Tries until it works; tells `waiting` why it does not, at each try.
    ///
    /// # Errors
    /// What waiting does not mend; the last reason, after the timeout or the stop; that of `waiting`.
    pub(crate) fn until_there<T>(
        &self,
        mut attempt: impl FnMut() -> Result<T, NotThere>,
        mut waiting: impl FnMut(&str) -> Result<()>,
    ) -> Result<T> {
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let error = match attempt() {
                Ok(there) => return Ok(there),
                Err(NotThere::AtAll(error)) => return Err(error),
                Err(NotThere::Yet(error)) => error,
            };
            let pause = TRY_EVERY.mul_f64(rand::random_range(0.75..1.0));
            if deadline.is_some_and(|deadline| Instant::now() + pause > deadline) {
                return Err(error);
            }
            let reason = format!("{error:#}");
            waiting(&reason)?;
            if self.stop.wait(pause) {
                bail!("stopped while it waited: {reason}; the same command goes on");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use nsq_protocol::thread::stop_pair;

    use super::*;

    #[test]
    fn it_waits_until_it_works_or_cannot_or_the_time_is_over() {
        let (source, stop) = stop_pair();
        let patient = StartWait { timeout: None, stop: stop.clone() };
        let mut told = Vec::new();
        let mut tries = 0;
        let there = patient.until_there(
            || {
                tries += 1;
                if tries < 3 { Err(NotThere::Yet(anyhow!("try {tries}"))) } else { Ok(tries) }
            },
            |reason| {
                told.push(reason.to_owned());
                Ok(())
            },
        );
        assert_eq!((there.unwrap(), told), (3, vec!["try 1".to_owned(), "try 2".to_owned()]));
        let never = |error: fn() -> NotThere| move || Err::<(), _>(error());
        let away = || NotThere::Yet(anyhow!("away"));
        let wrong = patient.until_there(never(|| NotThere::AtAll(anyhow!("wrong"))), |_| Ok(()));
        assert_eq!(wrong.unwrap_err().to_string(), "wrong");
        let once = StartWait { timeout: Some(Duration::ZERO), stop };
        let late = once.until_there(never(away), |_| unreachable!("there is one try"));
        assert_eq!(late.unwrap_err().to_string(), "away");
        drop(source);
        let stopped = patient.until_there(never(away), |_| Ok(()));
        assert_eq!(
            stopped.unwrap_err().to_string(),
            "stopped while it waited: away; the same command goes on"
        );
    }
}
