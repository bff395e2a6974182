//! `dashboard`: only the dashboard. Runs on the main thread, which waits for the stop signal.

use std::sync::Arc;

use anyhow::Result;
use argh::{ArgsInfo, FromArgs};
use nsq_protocol::thread::StopToken;

use crate::command::shared::https;
use crate::command::shared::nsq;
use crate::command::shared::output::{configuration, listed, status};
use crate::command::shared::status::StatusWatch;
use crate::command::shared::tls;
use crate::command::shared::token::{read_token, write_token};
use crate::command::shared::values::{self, Count, EmbedSites, HumanDuration, VideoUrl};
use crate::dashboard::{Dashboard, DashboardConfig, Keep, WatchedQueue};
use crate::runtime::links::Links;
use crate::runtime::notify;

/// only the dashboard: stores what processors publish and serves the page, until Ctrl-C
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "dashboard", help_triggers("-h", "--help", "help"))]
pub(super) struct DashboardArgs {
    /// host:port of the page; port 0 takes a free one [default: 127.0.0.1:8000]
    #[argh(option, default = "values::HTTP_ADDRESS.into()")]
    http_address: String,
    /// token that writes need; a must beyond loopback; others see it in ps, but not --write-token-file
    /// or PLAYCOUNTS_WRITE_TOKEN [default: none]
    #[argh(option)]
    write_token: Option<String>,
    /// file that holds that token, for its owner alone (chmod 600) [default: none]
    #[argh(option)]
    write_token_file: Option<String>,
    /// token that reads need, or that opens the page's form to sign in; others see it in ps, but not --read-token-file
    /// or PLAYCOUNTS_READ_TOKEN [default: none, all may read]
    #[argh(option)]
    read_token: Option<String>,
    /// file that holds that token, for its owner alone (chmod 600) [default: none]
    #[argh(option)]
    read_token_file: Option<String>,
    /// PEM file of the certificate to serve HTTPS with, and of those between it and its authority; read again on SIGHUP
    /// [default: none, plain HTTP]
    #[argh(option)]
    tls_cert: Option<String>,
    /// PEM file of that certificate's private key, not encrypted [default: none]
    #[argh(option)]
    tls_key: Option<String>,
    /// HTTP host:port of an nsqd whose queue to show, or https://host:port; repeatable [default: none]
    #[argh(option)]
    nsqd_http_address: Vec<String>,
    /// show the nsqds that the nsqlookupd at this HTTP host:port, or https://host:port, knows, as they come and go;
    /// repeatable [default: none]
    #[argh(option)]
    lookupd_http_address: Vec<String>,
    /// PEM file of the certificate authorities of nsqds and nsqlookupds at https://, and no others [default: what options
    /// of the consumer or producer say of TLS, else SSL_CERT_FILE, else those that browsers trust]
    #[argh(option)]
    nsqd_http_ca: Option<String>,
    /// topic whose depth to show [default: plays]
    #[argh(option, default = "values::TOPIC.into()")]
    topic: String,
    /// channel whose depth to show [default: processor]
    #[argh(option, default = "values::CHANNEL.into()")]
    channel: String,
    /// mark the queue's depth, in the page, the diagnosis and the metrics, while more messages wait [default: never]
    #[argh(option)]
    depth_alert: Option<Count>,
    /// raise an alarm when nothing was counted for so long, even if nothing waits [default: never; while messages wait, 1 min]
    #[argh(option)]
    idle_alert: Option<HumanDuration>,
    /// url that is told which alarms begin and end, as JSON; others see it in ps, but not --alert-webhook-file
    /// or PLAYCOUNTS_ALERT_WEBHOOK [default: none]
    #[argh(option)]
    alert_webhook: Option<String>,
    /// file that holds that url, for its owner alone (chmod 600) [default: none]
    #[argh(option)]
    alert_webhook_file: Option<String>,
    /// least time between two calls of that url; what changes meanwhile is told in one [default: 1m]
    #[argh(option, default = "values::ALERT_PAUSE")]
    alert_pause: HumanDuration,
    /// PEM file of the certificate authorities of a webhook at https://, and no others [default: SSL_CERT_FILE, else those that
    /// browsers trust]
    #[argh(option)]
    alert_webhook_ca: Option<String>,
    /// sites that may show the counter and a video's chart in frames, at /embed: https://host, with commas between
    /// several [default: none]
    #[argh(option)]
    embed: Option<EmbedSites>,
    /// a name that the dashboard is served under besides localhost and its addresses; repeatable [default: none]
    #[argh(option)]
    allowed_host: Vec<String>,
    /// where videos are, for the page's links, with id in braces where the percent-encoded id goes; a url of a video's own goes
    /// before it [default: none]
    #[argh(option)]
    video_url: Option<VideoUrl>,
    /// how long the dashboard keeps plays by minute [default: 2d]
    #[argh(option, default = "values::KEEP_BY_MINUTE")]
    keep_by_minute: HumanDuration,
    /// how long it keeps plays by hour, and the charts; by day it keeps them for ever [default: 90d]
    #[argh(option, default = "values::KEEP_BY_HOUR")]
    keep_by_hour: HumanDuration,
    /// directory for the counts [default: playcounts-data]
    #[argh(option, default = "values::DATA_DIR.into()")]
    data_dir: String,
}

/// What its status lines begin with.
const PART: &str = "dashboard";

impl DashboardArgs {
    fn config(self) -> Result<DashboardConfig> {
        let (topic, channel) = (nsq::topic(&self.topic)?, nsq::channel(&self.channel)?);
        let (nsqds, lookupds) = (self.nsqd_http_address, self.lookupd_http_address);
        let nsqd_tls = https::nsq_tls(self.nsqd_http_ca, None, &nsqds, &lookupds)?;
        nsq::check_lookupds(&lookupds, &nsqd_tls.lookupd)?;
        let shown = [
            ("topic, channel", format!("{topic}, {channel}")),
            ("data directory", self.data_dir.clone()),
        ];
        Ok(DashboardConfig {
            http_address: self.http_address,
            data_dir: self.data_dir.into(),
            write_token: write_token(self.write_token, self.write_token_file)?,
            read_token: read_token(self.read_token, self.read_token_file)?,
            configuration: configuration(&shown),
            clean: false,
            keep: Keep { minutes: self.keep_by_minute.0, hours: self.keep_by_hour.0 },
            watched: Some(WatchedQueue {
                nsqds,
                lookupds,
                tls: nsqd_tls,
                topic,
                channel,
                depth_alert: self.depth_alert.map(|count| count.0),
            }),
            allowed_hosts: self.allowed_host,
            video_url: self.video_url.map(|url| url.0),
            idle_alert: self.idle_alert.map(|time| time.0),
            webhook: https::webhook(
                self.alert_webhook,
                self.alert_webhook_file,
                self.alert_pause.0,
                self.alert_webhook_ca,
            )?,
            embed: self.embed.map_or_else(Vec::new, |sites| sites.0),
            tls: tls::files(self.tls_cert, self.tls_key)?,
        })
    }
}

/// Serves until `stop`.
pub(super) fn run(args: DashboardArgs, stop: &StopToken) -> Result<()> {
    let config = args.config()?;
    let serves = serves(&config);
    let dashboard = Dashboard::start(config)?;
    // Before anybody is told: a SIGHUP that nobody waits for ends the process.
    let _reload = tls::reload_on_hangup(PART, dashboard.certificate().cloned())?;
    status(PART, format_args!("the page is live at {}; {serves}; Ctrl-C ends it", dashboard.url()));
    notify::ready();
    let links = Arc::new(Links::default());
    links.ask(dashboard.links());
    let watch = StatusWatch::start(PART, &links)?;
    let _ = stop.channel().recv();
    // Whoever stops now is not away.
    drop(watch);
    dashboard.shutdown()
}

/// Where it stores, whom it asks, and who may write.
fn serves(config: &DashboardConfig) -> String {
    let mut said = format!("stores in {}", config.data_dir.display());
    if let Some(WatchedQueue { nsqds, lookupds, topic, channel, .. }) = &config.watched {
        let asked = [("nsqd", nsqds), ("nsqlookupd", lookupds)];
        let asked = asked.into_iter().filter(|(_, addresses)| !addresses.is_empty());
        let asked: Vec<_> = asked.map(|(what, addresses)| listed(what, addresses)).collect();
        if !asked.is_empty() {
            said += &format!("; asks {} for {topic}/{channel}", asked.join(" and "));
        }
    }
    if config.read_token.is_some() {
        said += "; who reads needs a token";
    }
    said + match config.write_token {
        Some(_) => "; who writes needs the token",
        None => "; whoever is on this machine may write",
    }
}
