//! Which ledger a command's `--ledger` names: files in its data directory, or a database that processors share.

use anyhow::{Result, bail};

use crate::model::config::Durability;
#[cfg(feature = "postgres")]
use crate::postgres::PgConfig;

/// The value that means the files in the data directory.
pub(crate) const FILES: &str = "files";

/// A ledger, by where it is.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "a command has one")]
pub(crate) enum LedgerChoice {
    /// In the data directory.
    Files,
    /// In a database of PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgres(PgConfig),
}

impl LedgerChoice {
    /// Reads `files` or `postgres://…`; what the URL leaves out is looked up in the environment, as libpq does.
    ///
    /// # Errors
    /// It is neither, or cannot be understood, or this build has no PostgreSQL. No password is shown.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if text == FILES {
            return Ok(Self::Files);
        }
        if !(text.starts_with("postgres://") || text.starts_with("postgresql://")) {
            bail!(
                "--ledger is `{FILES}` or the URL of a database, postgres://user@host:port/database"
            );
        }
        Self::postgres(text)
    }

    /// What a count survives there, where `asked` is wanted: a database says itself what it keeps, and that is on its disk.
    ///
    /// # Errors
    /// None is wanted of a database.
    pub(crate) fn durability(&self, asked: Durability) -> Result<Durability> {
        match (self, asked) {
            (Self::Files, asked) => Ok(asked),
            #[cfg(feature = "postgres")]
            (Self::Postgres(_), Durability::None) => {
                bail!("--durability none is for a ledger in files: leave it out")
            }
            #[cfg(feature = "postgres")]
            (Self::Postgres(_), _) => Ok(Durability::Power),
        }
    }

    #[cfg(feature = "postgres")]
    fn postgres(url: &str) -> Result<Self> {
        let config = PgConfig::parse(url, &|name| std::env::var(name).ok());
        Ok(Self::Postgres(config.map_err(|error| anyhow::anyhow!("--ledger: {error}"))?))
    }

    #[cfg(not(feature = "postgres"))]
    fn postgres(_url: &str) -> Result<Self> {
        bail!(
            "this playcounts was built without PostgreSQL: build it with the cargo feature `postgres`, which is on by default"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_is_files_or_a_database_and_no_password_is_shown() {
        assert!(matches!(LedgerChoice::parse("files"), Ok(LedgerChoice::Files)));
        for wrong in ["", "sqlite", "postgres:/a", "http://a:secret@b", "/var/lib/ledger"] {
            let text = LedgerChoice::parse(wrong).unwrap_err().to_string();
            assert!(text.contains("--ledger is `files`") && !text.contains("secret"), "{text}");
        }
        let parsed = LedgerChoice::parse("postgres://me:secret@host:7/plays");
        if cfg!(feature = "postgres") {
            assert!(!format!("{:?}", parsed.unwrap()).contains("secret"));
            for wrong in
                ["postgres://me:secret@host:x/plays", "postgres://me:secret@host/plays?no=1"]
            {
                let text = format!("{:#}", LedgerChoice::parse(wrong).unwrap_err());
                assert!(text.starts_with("--ledger: ") && !text.contains("secret"), "{text}");
            }
        } else {
            let text = parsed.unwrap_err().to_string();
            assert!(
                text.contains("the cargo feature `postgres`") && !text.contains("secret"),
                "{text}"
            );
        }
    }
}
