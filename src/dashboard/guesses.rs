//! How often an address may guess a token (pure).
//!
//! A token that was wrong before is no guess: a program that is set up wrongly sends the same one for ever, and must lock out
//! nobody who shares its address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::tokens::TokenHash;

/// Wrong tokens that an address has at once.
const AT_ONCE: u32 = 20;

/// How soon it has one more.
const EACH: Duration = Duration::from_secs(3);

/// Wrong tokens that are known again, of each address.
const KNOWN: usize = 8;

/// Addresses that are remembered. Beyond it the one goes that has been quiet for longest.
const ADDRESSES: usize = 4096;

/// Who guesses, and how often.
#[derive(Debug, Default)]
pub(super) struct Guesses {
    by_address: HashMap<IpAddr, Guesser>,
}

#[derive(Debug)]
struct Guesser {
    /// When all of its guesses are there again.
    full_at: Instant,
    newest: Instant,
    /// What it tried and was wrong, the newest last.
    wrong: Vec<TokenHash>,
}

impl Guesses {
    /// Whether somebody there may try that token; an error says when there is another try.
    pub(super) fn check(
        &self,
        from: IpAddr,
        tried: &TokenHash,
        now: Instant,
    ) -> Result<(), Duration> {
        let Some(guesser) = self.by_address.get(&place(from)) else { return Ok(()) };
        if guesser.wrong.contains(tried) {
            return Ok(());
        }
        let owed = guesser.full_at.saturating_duration_since(now);
        match owed.checked_sub(EACH * (AT_ONCE - 1)) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => Ok(()),
        }
    }

    /// It was wrong.
    pub(super) fn was_wrong(&mut self, from: IpAddr, tried: TokenHash, now: Instant) {
        let from = place(from);
        if self.by_address.len() >= ADDRESSES && !self.by_address.contains_key(&from) {
            let quiet = self.by_address.iter().min_by_key(|(_, guesser)| guesser.newest);
            if let Some(quiet) = quiet.map(|(address, _)| *address) {
                self.by_address.remove(&quiet);
            }
        }
        let fresh = || Guesser { full_at: now, newest: now, wrong: Vec::new() };
        let guesser = self.by_address.entry(from).or_insert_with(fresh);
        guesser.newest = now;
        if guesser.wrong.contains(&tried) {
            return;
        }
        guesser.full_at = guesser.full_at.max(now) + EACH;
        if guesser.wrong.len() == KNOWN {
            guesser.wrong.remove(0);
        }
        guesser.wrong.push(tried);
    }
}

/// Whose address that is: a network of IPv6 gives each of its machines as many as it likes.
fn place(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::from((u128::from(address) >> 64 << 64).to_be_bytes()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokens::tried;
    use super::*;

    #[test]
    fn who_guesses_waits_and_who_repeats_itself_does_not() {
        let (mut guesses, began) = (Guesses::default(), Instant::now());
        let here = IpAddr::from([192, 0, 2, 1]);
        let token = |number: u32| tried(&number.to_string());
        for _ in 0..1_000 {
            guesses.check(here, &token(0), began).unwrap();
            guesses.was_wrong(here, token(0), began);
        }
        for number in 1..AT_ONCE {
            guesses.check(here, &token(number), began).unwrap();
            guesses.was_wrong(here, token(number), began);
        }
        assert_eq!(guesses.check(here, &tried("right"), began), Err(EACH));
        // Known to be wrong: that costs nobody anything.
        assert_eq!(guesses.check(here, &token(AT_ONCE - 1), began), Ok(()));
        assert_eq!(guesses.check(IpAddr::from([192, 0, 2, 2]), &tried("right"), began), Ok(()));
        assert_eq!(guesses.check(here, &tried("right"), began + EACH), Ok(()));
        // Over an hour not more than the rest of it allows.
        let mut taken = 0;
        for second in 0..3600 {
            let (now, guess) =
                (began + Duration::from_secs(second), token(100_000 + second as u32));
            if guesses.check(here, &guess, now).is_ok() {
                guesses.was_wrong(here, guess, now);
                taken += 1;
            }
        }
        assert_eq!(taken, 1200 - 1);
    }

    #[test]
    fn a_network_of_ipv6_is_one_place_and_not_too_many_are_remembered() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        let address =
            |network: u128, host: u128| IpAddr::from((network << 64 | host).to_be_bytes());
        for host in 0..u128::from(AT_ONCE) {
            guesses.was_wrong(address(1, host), tried(&host.to_string()), now);
        }
        assert!(guesses.check(address(1, 999), &tried("x"), now).is_err());
        assert!(guesses.check(address(2, 0), &tried("x"), now).is_ok());
        for network in 0..2 * ADDRESSES as u128 {
            guesses.was_wrong(address(network, 0), tried("x"), now);
        }
        assert_eq!(guesses.by_address.len(), ADDRESSES);
    }
}
