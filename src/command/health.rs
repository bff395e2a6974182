//! `health`: whether a part is well, for a container's health check and for scripts. Asks once, on the main thread.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use argh::{ArgsInfo, FromArgs};
use nsq_protocol::{Admin, TlsConfig};

use crate::command::shared::https;
use crate::command::shared::output::print;
use crate::command::shared::values;
use crate::storage::data_dir::{self, DASHBOARD, PROCESSOR, PRODUCER};
use crate::wire::client::DashboardClient;

/// The longest that an answer may take: whoever needs longer is not well. Below the 10 s that many a health check has.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// whether a dashboard, a broker or the owner of a data directory is well: exit status 0 or 1, and one line that says
/// so; for a container's health check
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "health", help_triggers("-h", "--help", "help"))]
pub(super) struct HealthArgs {
    /// the dashboard to ask [default: http://127.0.0.1:8000, unless something else is asked]
    #[argh(option)]
    dashboard_url: Option<String>,
    /// PEM file of the certificate authorities of dashboards at https://, and no others [default: SSL_CERT_FILE, else
    /// those that browsers trust]
    #[argh(option)]
    dashboard_ca: Option<String>,
    /// the dashboard's token for reads, where it is private; others see it in ps, but not --read-token-file
    /// or PLAYCOUNTS_READ_TOKEN [default: none]
    #[argh(option)]
    read_token: Option<String>,
    /// file that holds that token, for its owner alone (chmod 600) [default: none]
    #[argh(option)]
    read_token_file: Option<String>,
    /// the broker, or nsqd, to ask, by its HTTP host:port [default: none]
    #[argh(option)]
    broker_http_address: Option<String>,
    /// the data directory that a processor, producer or dashboard must be running on [default: none]
    #[argh(option)]
    data_dir: Option<String>,
}

/// Asks, and says how it is.
///
/// # Errors
/// It is not well: why.
pub(super) fn run(args: HealthArgs) -> Result<()> {
    let well = match (args.dashboard_url, args.broker_http_address, args.data_dir) {
        (None, Some(address), None) if args.dashboard_ca.is_none() => broker(&address)?,
        (None, None, Some(directory)) if args.dashboard_ca.is_none() => owner(&directory)?,
        (url, None, None) => {
            let url = url.unwrap_or_else(|| values::DASHBOARD_URL.to_owned());
            let (token, file) = (args.read_token, args.read_token_file);
            dashboard(https::readable_dashboard(url, args.dashboard_ca, token, file)?)?
        }
        _ => bail!(
            "one thing is asked at a time: give --dashboard-url, --broker-http-address or --data-dir"
        ),
    };
    print(format_args!("{well}"))
}

fn dashboard(client: DashboardClient) -> Result<String> {
    client.health(ANSWER_WAIT).context("not well")?;
    Ok(format!("the dashboard at {} is well", client.url()))
}

fn broker(address: &str) -> Result<String> {
    let admin = Admin::with_tls(address, ANSWER_WAIT, TlsConfig::new());
    admin.ping().context("not well")?;
    Ok(format!("the broker at {address} is well"))
}

/// Whoever holds the lock of a part runs: the system gives it back at the end of the process, whatever ended it.
fn owner(directory: &str) -> Result<String> {
    let user = |role| data_dir::user(Path::new(directory), role);
    match [PROCESSOR, PRODUCER, DASHBOARD].into_iter().find_map(user) {
        Some(user) => Ok(format!("well: {}", user.trim_start_matches("another "))),
        None => bail!("not well: no part runs on the data directory {directory}"),
    }
}
