//! One line for each option of each command: what its value is, its default, who may see it (pure). The name, the text
//! and how often it may be given stand at its field, as argh has them; a test holds both together.

use super::kind::{Secrecy, ValueKind};
use crate::command::shared::values::{
    INT32_MAX, MAX_CONNECTIONS, MAX_DEFLATE_LEVEL, MAX_IN_FLIGHT, MAX_MSG_SIZE, MAX_PORT,
    MAX_RDY_COUNT, MAX_ROUNDS, MAX_THREADS, MAX_VIDEOS, MAX_WHOLE, RATE_MAX,
};
use crate::ledger::MessageBudget;
use crate::model::video::MAX_PLAYS;

/// What holds where an option is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DefaultValue {
    /// It must be given.
    Required,
    /// It is off: a switch.
    Off,
    /// As if this were given.
    Value(&'static str),
    /// No value; the text says what that means.
    Unset(&'static str),
}

/// An option of all commands that have it, or of some.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OptionRow {
    /// Without dashes in front.
    pub(crate) name: &'static str,
    /// What its value is.
    pub(crate) kind: ValueKind,
    /// What holds without it.
    pub(crate) default: DefaultValue,
    /// What of it is hidden.
    pub(crate) secrecy: Secrecy,
    /// The commands that it is for; empty: all that have no row of their own.
    pub(crate) commands: &'static [&'static str],
}

/// Options that belong together, under one heading of help.
pub(crate) struct Section {
    /// The heading.
    pub(crate) title: &'static str,
    /// Its options.
    pub(crate) rows: &'static [OptionRow],
}

const fn row(name: &'static str, kind: ValueKind) -> OptionRow {
    let default = DefaultValue::Unset("none");
    OptionRow { name, kind, default, secrecy: Secrecy::Open, commands: &[] }
}

const fn switch(name: &'static str) -> OptionRow {
    OptionRow { default: DefaultValue::Off, ..row(name, ValueKind::Switch) }
}

impl OptionRow {
    const fn value(self, text: &'static str) -> Self {
        Self { default: DefaultValue::Value(text), ..self }
    }

    const fn unset(self, text: &'static str) -> Self {
        Self { default: DefaultValue::Unset(text), ..self }
    }

    const fn required(self) -> Self {
        Self { default: DefaultValue::Required, ..self }
    }

    const fn hidden(self, secrecy: Secrecy) -> Self {
        Self { secrecy, ..self }
    }

    const fn of(self, commands: &'static [&'static str]) -> Self {
        Self { commands, ..self }
    }
}

/// What an option that has no row is taken for; a test finds it.
pub(crate) const UNKNOWN: OptionRow = row("", ValueKind::Text);

/// The file of an option's authorities where neither it nor options of the connection name one.
const NSQD_CA: &str = "what options of the consumer or producer say of TLS, else SSL_CERT_FILE, else those that browsers trust";

use ValueKind::{
    Address, Directory, Duration, File, Like, Limit, Number, OneOf, Pair, Shares, Signed, Text,
    Url, Whole,
};

/// All options, in the order of help.
pub(crate) const SECTIONS: &[Section] = &[
    Section {
        title: "What is produced",
        rows: &[
            row("num-messages", Whole(MAX_WHOLE)).value("100000").of(&["run", "produce"]),
            row("num-messages", Whole(MAX_WHOLE)).value("1000000").of(&["bench"]),
            row("num-videos", Whole(MAX_VIDEOS)).value("100"),
            row("rate", Number(RATE_MAX)).unset("as fast as possible"),
            row("popularity", Like(&["uniform", "zipf:1"])).value("uniform"),
            switch("real-life"),
            row("pc-ratio", Number(MAX_THREADS)).value("1"),
            row("rounds", Whole(MAX_ROUNDS)).value("5"),
        ],
    },
    Section {
        title: "Videos",
        rows: &[
            row("plays", Signed(MAX_PLAYS)).required(),
            row("reason", Text).unset("none").of(&["video show"]),
            row("reason", Text).required(),
            row("name", Text).unset("the file's name"),
            switch("undo"),
            switch("list"),
            switch("dry-run"),
        ],
    },
    Section {
        title: "Counting",
        rows: &[
            row("num-messages", Whole(MAX_WHOLE)).unset("none, runs until Ctrl-C").of(&["process"]),
            row("num-threads", Whole(MAX_THREADS)).value("2"),
            row("update-interval", Duration).value("30s"),
            row("realtime-below", Whole(MAX_WHOLE)).value("100"),
            row("video-field", Like(&["/video_id"])).value("/video_id"),
            row("time-field", Like(&["/enqueued_at"])).value("/enqueued_at"),
            row("id-field", Like(&["/id"])).unset("none, /producer and /seq identify a play"),
            row("title-field", Like(&["/title"])),
            row("plays-field", Like(&["/plays"])).unset("none, a body is a play or an array of them"),
            row("time-window-back", Duration).value("7d"),
            row("time-window-ahead", Duration).value("1m"),
        ],
    },
    Section {
        title: "Queue",
        rows: &[
            switch("start-nsq"),
            switch("queue-on-disk"),
            row("nsqd-tcp-address", Address).unset("the embedded broker").of(&["run", "bench"]),
            row("nsqd-tcp-address", Address).value("127.0.0.1:4150"),
            row("nsqd-http-address", Address)
                .unset("same host, TCP port + 1")
                .of(&["run", "process", "bench"]),
            row("nsqd-http-address", Address).unset("none, only the dashboard").of(&["reset"]),
            row("nsqd-http-address", Address),
            row("lookupd-http-address", Address),
            row("nsqd-http-ca", File).unset(NSQD_CA),
            row("connect-timeout", Duration).unset("never"),
            row("consumer-opt", Pair).hidden(Secrecy::SecretPair),
            row("producer-opt", Pair).hidden(Secrecy::SecretPair),
            switch("reset"),
            row("topic", Text).value("plays"),
            row("channel", Text).value("processor"),
            row("max-in-flight", Whole(MAX_IN_FLIGHT)).value("2500"),
            row("max-msg-size", Whole(MAX_MSG_SIZE)).value("1048576").of(&["process"]),
            switch("beside-others"),
        ],
    },
    Section {
        title: "Broker",
        rows: &[
            row("tcp-address", Address).value("127.0.0.1:4150"),
            row("http-address", Address).value("127.0.0.1:4151").of(&["broker"]),
            row("https-address", Address).value("127.0.0.1:4152"),
            row("tls-cert", File).of(&["broker"]),
            row("tls-key", File).of(&["broker"]),
            row("tls-root-ca-file", File),
            row("tls-client-auth-policy", OneOf(&["require", "require-verify"]))
                .unset("none, everybody"),
            row("tls-required", OneOf(&["true", "false", "tcp-https"])).value("false"),
            row("tls-min-version", OneOf(&["tls1.2", "tls1.3"])).value("tls1.2"),
            row("broadcast-address", Text).unset("the host's name"),
            row("broadcast-tcp-port", Limit(MAX_PORT)).value("0"),
            row("broadcast-http-port", Limit(MAX_PORT)).value("0"),
            row("lookupd-tcp-address", Address),
            row("http-client-connect-timeout", Duration).value("2s"),
            row("http-client-request-timeout", Duration).value("5s"),
            row("allowed-host", Text).of(&["broker"]),
            row("data-path", Directory).unset("none, all is in memory"),
            row("durability", OneOf(&["process", "power"])).value("process").of(&["broker"]),
            row("max-disk", Whole(MAX_WHOLE)).unset("what the disk has"),
            row("sync-every", Whole(MAX_WHOLE)).value("2500"),
            row("sync-timeout", Duration).value("2s"),
            row("statsd-address", Address),
            row("statsd-prefix", Text).value("nsq.%s"),
            row("statsd-interval", Duration).value("1m"),
            row("statsd-mem-stats", OneOf(&["true", "false"])).value("true"),
            row("statsd-udp-packet-size", Whole(MAX_PORT)).value("508"),
            switch("statsd-exclude-ephemeral"),
            row("e2e-processing-latency-percentile", Shares),
            row("e2e-processing-latency-window-time", Duration).value("10m"),
            row("mem-queue-size", Limit(MAX_WHOLE)).value("10000"),
            row("max-memory", Whole(MAX_WHOLE)).unset(
                "1073741824, or less: half of the container's limit, a quarter of the machine's memory",
            ),
            row("max-msg-size", Whole(INT32_MAX)).value("1048576").of(&["broker"]),
            row("max-body-size", Whole(INT32_MAX)).value("5242880"),
            row("max-rdy-count", Whole(MAX_RDY_COUNT)).value("65535"),
            row("msg-timeout", Duration).value("1m"),
            row("max-msg-timeout", Duration).value("15m"),
            row("max-req-timeout", Duration).value("1h"),
            row("auth-http-address", Address).unset("none, all may do all"),
            row("snappy", OneOf(&["true", "false"])).value("true"),
            row("deflate", OneOf(&["true", "false"])).value("true"),
            row("max-deflate-level", Whole(MAX_DEFLATE_LEVEL)).value("6"),
            row("max-channel-consumers", Limit(MAX_WHOLE)).value("0"),
            row("max-heartbeat-interval", Duration).value("1m"),
            row("max-output-buffer-size", Whole(INT32_MAX)).value("65536"),
            row("output-buffer-timeout", Duration).value("250ms"),
            row("min-output-buffer-timeout", Duration).value("25ms"),
            row("max-output-buffer-timeout", Duration).value("30s"),
            row("max-connections", Whole(MAX_CONNECTIONS)).value("4096"),
        ],
    },
    Section {
        title: "Of nsqd, without effect here",
        rows: &[
            row("max-bytes-per-file", Whole(MAX_WHOLE)),
            row("queue-scan-selection-count", Whole(MAX_WHOLE)),
            row("queue-scan-worker-pool-max", Whole(MAX_WHOLE)),
            row("node-id", Limit(MAX_WHOLE)),
            switch("worker-id"),
            row("log-prefix", Text),
            switch("verbose"),
        ],
    },
    Section {
        title: "Dashboard",
        rows: &[
            row("http-address", Address).value("127.0.0.1:8000"),
            row("dashboard-url", Url)
                .unset("http://127.0.0.1:8000, unless something else is asked")
                .of(&["health"]),
            row("dashboard-url", Url).unset("none, the database in the data directory").of(&["reset"]),
            row("dashboard-url", Url).value("http://127.0.0.1:8000"),
            row("broker-http-address", Address),
            row("dashboard-ca", File).unset("SSL_CERT_FILE, else those that browsers trust"),
            row("write-token", Text).hidden(Secrecy::Secret),
            row("write-token-file", File),
            row("read-token", Text).hidden(Secrecy::Secret).unset("none, all may read").of(&["dashboard", "run"]),
            row("read-token", Text).hidden(Secrecy::Secret),
            row("read-token-file", File),
            row("tls-cert", File).unset("none, plain HTTP"),
            row("tls-key", File),
            row("depth-alert", Whole(MAX_WHOLE)).unset("never"),
            row("idle-alert", Duration).unset("never; while messages wait, 1 min"),
            row("alert-webhook", Url).hidden(Secrecy::Secret),
            row("alert-webhook-file", File),
            row("alert-pause", Duration).value("1m"),
            row("alert-webhook-ca", File).unset("SSL_CERT_FILE, else those that browsers trust"),
            row("embed", Like(&["https://blog.example.org"])),
            row("allowed-host", Text),
            row("video-url", Like(&["https://example.org/watch/{id}"])),
            row("keep-by-minute", Duration).value("2d"),
            row("keep-by-hour", Duration).value("90d"),
        ],
    },
    Section {
        title: "Ledger and files",
        rows: &[
            row("ledger", Text)
                .required()
                .hidden(Secrecy::Password)
                .of(&["ledger init", "ledger status", "ledger import"]),
            row("ledger", Like(&["files"])).value("files").hidden(Secrecy::Password),
            row("durability", OneOf(&["process", "power", "none"])).value("process"),
            row("message-window-mb", Whole(MessageBudget::MAX_MB)).value("32"),
            row("republish-after", Duration).value("30s"),
            row("max-outbox", Whole(MAX_WHOLE)).value("10000000"),
            switch("standby"),
            switch("adopt-ledger"),
            switch("accept-loss"),
            switch("dry-run"),
            row("output", File).required(),
            row("from", Directory).required(),
            row("data-dir", Directory).unset("none, ends when nsqd has all").of(&["produce"]),
            row("data-dir", Directory).value("playcounts-run").of(&["run"]),
            row("data-dir", Directory).of(&["health"]),
            row("data-dir", Directory)
                .unset("playcounts-data; and playcounts-run, unless a running dashboard is named")
                .of(&["reset"]),
            row("data-dir", Directory).unset("playcounts-run, where a run has left some, else playcounts-data").of(&["verify"]),
            row("data-dir", Directory).value("playcounts-data"),
        ],
    },
    Section { title: "Output", rows: &[switch("exit"), switch("yes"), switch("json")] },
    Section {
        title: "Everywhere",
        rows: &[
            row("config", File),
            row("log-level", Like(&["off", "fatal", "error", "warn", "info", "debug", "trace"])).value("warn"),
            row("log-format", OneOf(&["text", "json", "journal"]))
                .unset("journal where stderr is the journal's, else text"),
        ],
    },
];

/// Of two that say the same in two ways, the one that is given nearer to the command line holds: a flag sets aside what
/// the environment or the file says of the other. Of one command, or of every one that has both.
pub(crate) const EXCLUSIVE: [(Option<&str>, [&str; 2]); 7] = [
    (None, ["write-token", "write-token-file"]),
    (None, ["read-token", "read-token-file"]),
    (None, ["alert-webhook", "alert-webhook-file"]),
    (None, ["nsqd-tcp-address", "lookupd-http-address"]),
    (Some("health"), ["dashboard-url", "broker-http-address"]),
    (Some("health"), ["dashboard-url", "data-dir"]),
    (Some("health"), ["broker-http-address", "data-dir"]),
];

/// The line of a command's option, and the section that it stands in.
pub(crate) fn find(command: &str, option: &str) -> Option<(usize, &'static OptionRow)> {
    let named = || {
        let sections = SECTIONS.iter().enumerate();
        let rows = sections.flat_map(|(at, section)| section.rows.iter().map(move |row| (at, row)));
        rows.filter(move |(_, row)| row.name == option)
    };
    named()
        .find(|(_, row)| row.commands.contains(&command))
        .or_else(|| named().find(|(_, row)| row.commands.is_empty()))
}
