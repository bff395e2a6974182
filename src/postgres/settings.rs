//! What a connection string and the PG* variables may say: each parameter with its variable, and what is done with it.
//! (pure)

use std::time::Duration;

use super::url::{UrlParameters, name_of};

/// What is done with a parameter.
#[derive(Clone, Copy, Debug)]
enum PgSupport {
    /// What it says.
    Full,
    /// Nothing: libpq knows it, and only these values ask for what is done anyhow.
    Only(&'static [&'static str]),
}

use PgSupport::{Full, Only};

/// All that libpq knows, and `answer_timeout`, which is ours. An empty variable is none.
const PARAMETERS: &[(&str, &str, PgSupport)] = &[
    ("host", "PGHOST", Full),
    ("hostaddr", "PGHOSTADDR", Full),
    ("port", "PGPORT", Full),
    ("dbname", "PGDATABASE", Full),
    ("user", "PGUSER", Full),
    ("password", "PGPASSWORD", Full),
    ("passfile", "PGPASSFILE", Full),
    ("connect_timeout", "PGCONNECT_TIMEOUT", Full),
    ("answer_timeout", "", Full),
    ("options", "PGOPTIONS", Full),
    ("application_name", "PGAPPNAME", Full),
    ("fallback_application_name", "", Full),
    ("keepalives", "", Full),
    ("keepalives_idle", "", Full),
    ("keepalives_interval", "", Full),
    ("keepalives_count", "", Full),
    ("tcp_user_timeout", "", Full),
    ("sslmode", "PGSSLMODE", Full),
    ("sslrootcert", "PGSSLROOTCERT", Full),
    ("sslcert", "PGSSLCERT", Full),
    ("sslkey", "PGSSLKEY", Full),
    ("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION", Full),
    ("target_session_attrs", "PGTARGETSESSIONATTRS", Full),
    ("channel_binding", "PGCHANNELBINDING", Only(&["prefer", "disable"])),
    ("client_encoding", "PGCLIENTENCODING", Only(&["UTF8", "utf8", "UTF-8", "utf-8", "auto"])),
    ("gssdelegation", "PGGSSDELEGATION", Only(&["0"])),
    ("gssencmode", "PGGSSENCMODE", Only(&["disable", "prefer"])),
    ("gsslib", "PGGSSLIB", Only(&[])),
    ("krbsrvname", "PGKRBSRVNAME", Only(&["postgres"])),
    ("load_balance_hosts", "PGLOADBALANCEHOSTS", Only(&["disable"])),
    ("max_protocol_version", "PGMAXPROTOCOLVERSION", Only(&["3.0"])),
    ("min_protocol_version", "PGMINPROTOCOLVERSION", Only(&["3.0"])),
    ("replication", "", Only(&["false", "off", "no", "0"])),
    ("require_auth", "PGREQUIREAUTH", Only(&[])),
    ("requirepeer", "PGREQUIREPEER", Only(&[])),
    ("requiressl", "PGREQUIRESSL", Only(&["0"])),
    ("service", "PGSERVICE", Only(&[])),
    ("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION", Only(&["TLSv1.3"])),
    ("sslcertmode", "PGSSLCERTMODE", Only(&["allow"])),
    ("sslcompression", "PGSSLCOMPRESSION", Only(&["0"])),
    ("sslcrl", "PGSSLCRL", Only(&[])),
    ("sslcrldir", "PGSSLCRLDIR", Only(&[])),
    ("sslnegotiation", "PGSSLNEGOTIATION", Only(&["postgres"])),
    ("sslpassword", "", Only(&[])),
    ("sslsni", "PGSSLSNI", Only(&["1"])),
];

/// What is said, by the connection string first and by a variable else.
pub(super) struct PgSettings<'a> {
    given: UrlParameters,
    env: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> PgSettings<'a> {
    /// # Errors
    /// A parameter that nobody knows, or one that asks for what is not done here; by name.
    pub(super) fn new(
        given: UrlParameters,
        env: &'a dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        for (key, _) in &given {
            if !PARAMETERS.iter().any(|(known, ..)| known == key) {
                return Err(format!(
                    "{} is not a parameter of PostgreSQL's connection strings",
                    name_of(key)
                ));
            }
        }
        let all = Self { given, env };
        for (key, variable, support) in PARAMETERS {
            let Only(values) = support else { continue };
            if all.get(key).is_some_and(|value| !values.contains(&value.as_str())) {
                let named = if all.is_given(key) { key } else { variable };
                let way_out = match values.first() {
                    Some(value) => format!("leave it out, or say {value}"),
                    None => "leave it out".to_owned(),
                };
                return Err(format!("{named} asks for what is not done here: {way_out}"));
            }
        }
        Ok(all)
    }

    /// Whether the connection string itself says something of it.
    pub(super) fn is_given(&self, key: &str) -> bool {
        self.given.iter().any(|(given, value)| given == key && !value.is_empty())
    }

    /// What is said of a parameter; an empty value says nothing.
    pub(super) fn get(&self, key: &str) -> Option<String> {
        let given = self.given.iter().rev().find(|(given, _)| given == key);
        let given = given.map(|(_, value)| value.clone()).filter(|value| !value.is_empty());
        let env = || {
            let (_, name, _) = PARAMETERS.iter().find(|(known, ..)| *known == key)?;
            (self.env)(name).filter(|value| !name.is_empty() && !value.is_empty())
        };
        given.or_else(env)
    }

    /// A variable that belongs to no parameter, such as HOME.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.env)(name).filter(|value| !value.is_empty())
    }

    /// A list with commas; one empty value where nothing is said.
    pub(super) fn list(&self, key: &str) -> Vec<String> {
        self.get(key).unwrap_or_default().split(',').map(|part| part.trim().to_owned()).collect()
    }

    /// A whole number; `None` where nothing is said, or 0 or less, which is "the default" in libpq.
    pub(super) fn number(&self, key: &str, unit: &str) -> Result<Option<u32>, String> {
        let Some(text) = self.get(key) else { return Ok(None) };
        match text.trim().parse::<i32>() {
            Ok(number) => Ok(u32::try_from(number).ok().filter(|number| *number > 0)),
            Err(_) => Err(format!("{key} is a whole number{unit}")),
        }
    }

    /// A number of seconds. 0 is the default, which libpq has as "for ever": no wait here is.
    pub(super) fn seconds(&self, key: &str, default: Duration) -> Result<Duration, String> {
        let number = self.number(key, " of seconds")?;
        Ok(number.map_or(default, |number| Duration::from_secs(number.into())))
    }

    /// One of these words, the first where nothing is said.
    pub(super) fn word<T: Copy>(
        &self,
        key: &str,
        words: &[(&str, T)],
        default: T,
    ) -> Result<T, String> {
        let Some(given) = self.get(key) else { return Ok(default) };
        let found = words.iter().find(|(word, _)| *word == given);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let all: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            format!("{key} is one of {}", all.join(", "))
        })
    }
}
