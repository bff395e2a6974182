//! Tokens and sessions: whether what somebody sent is the token, or a cookie that was given for it (pure).

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// How long somebody stays signed in who does not come back.
const SESSION_LASTS: Duration = Duration::from_secs(30 * 24 * 3600);

/// After how long a session is given anew to who does come back.
const RENEWED_AFTER: Duration = Duration::from_secs(24 * 3600);

/// How far ahead of our clock a session may have begun: the clock was set back meanwhile.
const AHEAD_MAX: Duration = Duration::from_secs(24 * 3600);

/// What a session's text holds before its seal: its id, when it was given, whether over HTTPS.
const SESSION_BYTES: usize = 16 + 8 + 1;

/// The hash of something that somebody sent as a token.
pub(super) type TokenHash = [u8; 32];

/// A token that is known. Kept by its hash, so that comparing tells neither how much was right nor how long it is.
#[derive(Clone)]
pub(super) struct Token {
    hash: TokenHash,
    /// For what is derived from it.
    key: Hmac<Sha256>,
}

/// Somebody who has signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SignInSession {
    /// Drawn at the sign-in.
    pub(super) id: Uuid,
    /// When its cookie was given, in seconds since 1970.
    given: u64,
    /// Whether the browser may send it over HTTPS only.
    is_secure: bool,
}

/// What is compared of something that was sent as a token.
pub(super) fn tried(text: &str) -> TokenHash {
    Sha256::digest(text.as_bytes()).into()
}

impl Token {
    pub(super) fn new(token: &str) -> Self {
        // An HMAC takes a key of any length.
        let key = Hmac::new_from_slice(token.as_bytes()).expect("any length is a key");
        Self { hash: tried(token), key }
    }

    /// Whether that was it; takes as long for every answer.
    pub(super) fn is(&self, tried: &TokenHash) -> bool {
        let differences =
            self.hash.iter().zip(tried).fold(0, |sum, (one, other)| sum | (one ^ other));
        std::hint::black_box(differences) == 0
    }

    /// The name of its cookie: browsers do not tell ports apart, and two dashboards of a machine may have tokens of their own.
    pub(super) fn cookie_name(&self) -> String {
        let seal = self.seal(b"the cookie's name");
        format!("playcounts-{:02x}{:02x}{:02x}{:02x}", seal[0], seal[1], seal[2], seal[3])
    }

    /// The cookie of a session: what only who knows the token can make, and what does not tell it.
    pub(super) fn cookie(&self, session: SignInSession) -> String {
        let text = session.text();
        let sealed = BASE64_URL_SAFE_NO_PAD.encode([&text[..], &self.seal(&text)].concat());
        let secure = if session.is_secure { "; Secure" } else { "" };
        let seconds = SESSION_LASTS.as_secs();
        // Without a path: the browser takes the one that the page lies under, which a proxy may have chosen.
        format!(
            "{}={sealed}; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}",
            self.cookie_name()
        )
    }

    /// What takes the cookie from the browser.
    pub(super) fn no_cookie(&self) -> String {
        format!("{}=; Max-Age=0; HttpOnly; SameSite=Lax", self.cookie_name())
    }

    /// The session of a request's header `Cookie`, where it holds one that this token has sealed and that is not over `now`, in
    /// seconds since 1970.
    pub(super) fn session(&self, cookies: &str, now: u64) -> Option<SignInSession> {
        let name = self.cookie_name();
        let mut pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
        // Two paths of one host may have one each.
        pairs.by_ref().filter(|(known, _)| *known == name).find_map(|(_, sealed)| {
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(sealed).ok()?;
            let (text, seal) = bytes.split_at_checked(SESSION_BYTES)?;
            self.key.clone().chain_update(text).verify_slice(seal).ok()?;
            let session = SignInSession::of(text)?;
            let is_over = now.saturating_sub(session.given) > SESSION_LASTS.as_secs();
            let is_ahead = session.given.saturating_sub(now) > AHEAD_MAX.as_secs();
            (!is_over && !is_ahead).then_some(session)
        })
    }

    fn seal(&self, text: &[u8]) -> [u8; 32] {
        self.key.clone().chain_update(text).finalize().into_bytes().into()
    }
}

impl SignInSession {
    /// A new one.
    pub(super) fn begin(now: u64, is_secure: bool) -> Self {
        Self { id: Uuid::new_v4(), given: now, is_secure }
    }

    /// The same, given anew, where it is time for that.
    pub(super) fn renewed(self, now: u64) -> Option<Self> {
        let is_due = now.saturating_sub(self.given) > RENEWED_AFTER.as_secs();
        is_due.then_some(Self { given: now, ..self })
    }

    fn text(self) -> [u8; SESSION_BYTES] {
        let mut text = [0; SESSION_BYTES];
        text[..16].copy_from_slice(self.id.as_bytes());
        text[16..24].copy_from_slice(&self.given.to_be_bytes());
        text[24] = self.is_secure.into();
        text
    }

    fn of(text: &[u8]) -> Option<Self> {
        let id = Uuid::from_slice(text.get(..16)?).ok()?;
        let given = u64::from_be_bytes(text.get(16..24)?.try_into().ok()?);
        Some(Self { id, given, is_secure: *text.get(24)? == 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600;

    /// The value of a cookie, as the browser sends it back.
    fn sent(cookie: &str) -> String {
        cookie.split(';').next().unwrap().to_owned()
    }

    #[test]
    fn a_token_is_itself_and_nothing_else() {
        let token = Token::new("s3cret");
        assert!(token.is(&tried("s3cret")));
        for other in ["", "s3cre", "s3cret ", "S3cret", "s3crets"] {
            assert!(!token.is(&tried(other)), "{other}");
        }
    }

    #[test]
    fn a_session_holds_for_its_time_and_by_its_token() {
        let (token, other) = (Token::new("s3cret"), Token::new("another"));
        let session = SignInSession::begin(100 * DAY, true);
        let cookie = token.cookie(session);
        assert!(cookie.ends_with("; HttpOnly; SameSite=Lax; Secure") && !cookie.contains("s3cret"));
        assert!(!token.cookie(SignInSession::begin(0, false)).contains("Secure"));
        let sent = sent(&cookie);
        let of = |cookies: &str, day: u64| token.session(cookies, day * DAY);
        assert_eq!(of(&sent, 100), Some(session));
        assert_eq!(of(&format!("a=b; {sent}; c=d"), 130), Some(session));
        assert_eq!(of(&sent, 131), None);
        assert_eq!(of(&sent, 98), None, "nobody has signed in tomorrow");
        assert_eq!(other.session(&sent, 100 * DAY), None);
        let renamed = sent.replace(&token.cookie_name(), &other.cookie_name());
        assert_eq!(other.session(&renamed, 100 * DAY), None);
        assert_eq!(of("", 100), None);
        // An older one beside it, of another path.
        assert_eq!(of(&format!("{}=AAAA; {sent}", token.cookie_name()), 100), Some(session));
        assert_eq!(session.renewed(100 * DAY + 10), None);
        let renewed = session.renewed(102 * DAY).unwrap();
        assert_eq!((renewed.id, renewed.is_secure), (session.id, true));
        assert_eq!(of(&self::sent(&token.cookie(renewed)), 132), Some(renewed));
    }

    #[test]
    fn no_bit_of_a_session_can_be_changed() {
        let token = Token::new("s3cret");
        let sent = sent(&token.cookie(SignInSession::begin(DAY, false)));
        let (name, sealed) = sent.split_once('=').unwrap();
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(sealed).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let cookie = format!("{name}={}", BASE64_URL_SAFE_NO_PAD.encode(bytes));
            assert_eq!(token.session(&cookie, DAY), None, "{bit}");
        }
        for cut in 0..sealed.len() {
            assert_eq!(token.session(&format!("{name}={}", &sealed[..cut]), DAY), None, "{cut}");
        }
    }
}
