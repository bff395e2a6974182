//! `reset`: empties queue, dashboard, ledger and outbox. Runs on the main thread.

use std::fmt;
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use argh::{ArgsInfo, FromArgs};
use nsq_protocol::{TlsConfig, TopicName};

use crate::command::shared::https;
use crate::command::shared::nsq;
use crate::command::shared::output::print;
use crate::command::shared::run_files::RunFiles;
use crate::command::shared::values;
use crate::model::plain_text::PlainText;
use crate::nsqd::topic::RemoteTopic;
use crate::storage::data_dir::{DataDir, PROCESSOR};
use crate::wire::client::DashboardClient;
use crate::{dashboard, ledger, producer};

/// empties the queue, the dashboard's database and the processor's ledger; asks first
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "reset", help_triggers("-h", "--help", "help"))]
pub(super) struct ResetArgs {
    /// the nsqd's HTTP host:port, or https://host:port, whose topic to empty; repeatable
    /// [default: none, only the dashboard]
    #[argh(option)]
    nsqd_http_address: Vec<String>,
    /// empty the topic of every nsqd that the nsqlookupd at this HTTP host:port, or https://host:port, knows;
    /// repeatable [default: none]
    #[argh(option)]
    lookupd_http_address: Vec<String>,
    /// PEM file of the certificate authorities of nsqds and nsqlookupds at https://, and no others [default: what options
    /// of the consumer or producer say of TLS, else SSL_CERT_FILE, else those that browsers trust]
    #[argh(option)]
    nsqd_http_ca: Option<String>,
    /// topic to empty, with all its channels [default: plays]
    #[argh(option, default = "values::TOPIC.into()")]
    topic: String,
    /// the running dashboard to empty [default: none, the database in the data directory]
    #[argh(option)]
    dashboard_url: Option<String>,
    /// PEM file of the certificate authorities of dashboards at https://, and no others [default: SSL_CERT_FILE, else
    /// those that browsers trust]
    #[argh(option)]
    dashboard_ca: Option<String>,
    /// the dashboard's token for writes; others see it in ps, but not --write-token-file
    /// or PLAYCOUNTS_WRITE_TOKEN [default: none]
    #[argh(option)]
    write_token: Option<String>,
    /// file that holds that token, for its owner alone (chmod 600) [default: none]
    #[argh(option)]
    write_token_file: Option<String>,
    /// directory whose dashboard database, ledger and outbox to empty [default: playcounts-data; and playcounts-run, unless
    /// a running dashboard is named]
    #[argh(option)]
    data_dir: Option<String>,
    /// do not ask
    #[argh(switch)]
    yes: bool,
}

/// Something to empty.
enum ResetTarget {
    Topic { topic: TopicName, nsqds: Vec<String>, tls: TlsConfig },
    RunningDashboard(DashboardClient),
    DashboardDatabase(PathBuf),
    Ledger(PathBuf),
    Outbox(PathBuf),
}

impl ResetArgs {
    /// The data directories to empty: the one that is named, or the parts' and that of a `run`, if it is there. A dashboard
    /// that is named is the parts'.
    fn data_dirs(&self) -> Vec<PathBuf> {
        if let Some(named) = &self.data_dir {
            return vec![named.into()];
        }
        let of_run = Path::new(values::RUN_DIR);
        let more = (self.dashboard_url.is_none() && of_run.is_dir()).then(|| of_run.to_owned());
        [PathBuf::from(values::DATA_DIR)].into_iter().chain(more).collect()
    }

    /// What there is to empty, in the order in which it is emptied.
    fn targets(self, data_dirs: &[PathBuf]) -> Result<Vec<ResetTarget>> {
        let topic = nsq::topic(&self.topic)?;
        let mut nsqds = self.nsqd_http_address;
        let tls = https::nsq_tls(self.nsqd_http_ca, None, &nsqds, &self.lookupd_http_address)?;
        let found = nsq::nodes(&self.lookupd_http_address, &tls.lookupd)?;
        nsqds.extend(found.into_iter().map(|node| node.http_address));
        let mut targets = Vec::new();
        if !nsqds.is_empty() {
            targets.push(ResetTarget::Topic { topic, nsqds, tls: tls.nsqd });
        }
        let [first, more @ ..] = data_dirs else { return Ok(targets) };
        targets.push(match self.dashboard_url {
            Some(url) => {
                let (token, file) = (self.write_token, self.write_token_file);
                let dashboard = https::writable_dashboard(url, self.dashboard_ca, token, file)?;
                ResetTarget::RunningDashboard(dashboard)
            }
            None => ResetTarget::DashboardDatabase(first.clone()),
        });
        targets.extend(more.iter().cloned().map(ResetTarget::DashboardDatabase));
        for data_dir in data_dirs {
            if ledger::exists(data_dir) {
                targets.push(ResetTarget::Ledger(data_dir.clone()));
            }
            if producer::outbox_exists(data_dir) {
                targets.push(ResetTarget::Outbox(data_dir.clone()));
            }
        }
        Ok(targets)
    }
}

impl ResetTarget {
    fn empty(&self) -> Result<()> {
        match self {
            Self::Topic { topic, nsqds, tls } => {
                // All channels are emptied, whichever this one is.
                RemoteTopic::new(nsqds, tls, *topic, nsq::channel(values::CHANNEL)?).empty()
            }
            Self::RunningDashboard(dashboard) => dashboard.clear(),
            Self::DashboardDatabase(dir) if dir.is_dir() => dashboard::clear(dir),
            Self::DashboardDatabase(_) => Ok(()),
            Self::Ledger(dir) => {
                let _lock = DataDir::open(dir)?.lock(PROCESSOR)?;
                ledger::remove(dir)
            }
            Self::Outbox(dir) => producer::remove_outbox(&DataDir::open(dir)?),
        }
    }
}

impl fmt::Display for ResetTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic { topic, nsqds, .. } => write!(f, "topic {topic} at {}", nsqds.join(", ")),
            Self::RunningDashboard(dashboard) => {
                write!(f, "the counts of the dashboard at {}", dashboard.url())
            }
            Self::DashboardDatabase(dir) => {
                write!(f, "the dashboard's counts in {}", dir.display())
            }
            Self::Ledger(dir) => write!(f, "the processor's ledger in {}", dir.display()),
            Self::Outbox(dir) => write!(f, "the producer's outbox in {}", dir.display()),
        }
    }
}

/// Asks, empties, and says what was emptied.
pub(super) fn run(args: ResetArgs) -> Result<()> {
    let (data_dirs, unasked) = (args.data_dirs(), args.yes);
    let targets = args.targets(&data_dirs)?;
    if !unasked {
        let all: Vec<_> = targets.iter().map(ResetTarget::to_string).collect();
        confirm(&format!("This throws away {}. Go on?", all.join(" and ")))?;
    }
    targets.iter().try_for_each(ResetTarget::empty)?;
    data_dirs.iter().try_for_each(|data_dir| RunFiles::new(data_dir).clear())?;
    targets.iter().try_for_each(|target| print(format_args!("emptied {target}")))
}

/// Asks on the terminal; without one only `--yes` will do.
fn confirm(question: &str) -> Result<()> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        bail!("there is no terminal to ask on; say --yes to go on without being asked");
    }
    let mut stderr = std::io::stderr();
    write!(stderr, "{} [y/N] ", PlainText::Line(question))
        .and_then(|()| stderr.flush())
        .context("cannot ask")?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer).context("cannot read the answer")?;
    if !matches!(answer.trim(), "y" | "Y" | "yes") {
        bail!("nothing was thrown away");
    }
    Ok(())
}
