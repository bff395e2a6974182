//! The programs of others that a cluster is made of, where they are found.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// Where they are.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) nsqd: PathBuf,
    pub(crate) nsqlookupd: PathBuf,
    /// The producer of go-nsq, `benches/peers/go-nsq`, which `scripts/cluster` builds.
    pub(crate) go_nsq: Option<PathBuf>,
}

impl Programs {
    /// `None` when there is no nsqd.
    pub(crate) fn find() -> Result<Option<Self>> {
        let Some(nsqd) = crate::nsqd::find() else { return Ok(None) };
        let nsqlookupd = match set("NSQLOOKUPD") {
            Some(given) => given,
            None => nsqd.with_file_name("nsqlookupd"),
        };
        nsqlookupd
            .metadata()
            .with_context(|| format!("an nsqd, but no {}", nsqlookupd.display()))?;
        Ok(Some(Self { nsqd, nsqlookupd, go_nsq: set("GO_NSQ") }))
    }
}

fn set(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|given| !given.is_empty()).map(PathBuf::from)
}
