//! The command line of each part.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::database::Database;
use crate::link::Link;
use crate::name::{Kind, Name};
use crate::options::Options;
use crate::parts::{Cluster, Place, TOPIC};

/// How long a message may be in flight: what a killed processor held comes back so soon.
const MSG_TIMEOUT: &str = "msg_timeout,5s";

impl Cluster {
    /// What runs a part, on its machine.
    pub(crate) fn command(&self, name: Name) -> Result<Command> {
        let ours = || self.network.command(name, Path::new(env!("CARGO_BIN_EXE_playcounts")));
        let mut command = match name.kind {
            Kind::Postgres => {
                return Ok(self
                    .database
                    .as_ref()
                    .context("there is a database")?
                    .command(&self.network));
            }
            Kind::Nsqlookupd => self.network.command(name, &self.programs.nsqlookupd),
            Kind::Nsqd => self.network.command(name, &self.programs.nsqd),
            Kind::GoNsq => {
                self.network.command(name, self.programs.go_nsq.as_deref().context("a go-nsq")?)
            }
            Kind::Dashboard | Kind::Process | Kind::Produce => ours(),
        };
        command.args(self.arguments(name));
        if self.options.netns {
            command.env("PLAYCOUNTS_WRITE_TOKEN", &self.token);
        }
        if let (Kind::Process, Some(passwords)) = (name.kind, self.passwords()) {
            command.env("PGPASSFILE", passwords);
        }
        Ok(command)
    }

    fn arguments(&self, name: Name) -> Vec<String> {
        let directory = self.directory(name).display().to_string();
        match name.kind {
            Kind::Postgres => Vec::new(),
            Kind::Nsqlookupd => {
                let Place { listens, http, .. } = self.place_of(name);
                let ip = listens.ip();
                words(&format!(
                    "-tcp-address {listens} -http-address {http} -broadcast-address {ip}"
                ))
            }
            Kind::Nsqd => {
                let Place { listens, http, found } = self.place_of(name);
                let mut args = words(&format!(
                    "-tcp-address {listens} -http-address {http} -broadcast-address {} -broadcast-tcp-port {} \
                     -node-id {}",
                    found.ip(),
                    found.port(),
                    name.number
                ));
                args.extend(["-data-path".into(), directory]);
                for lookupd in self.of_kind(Kind::Nsqlookupd) {
                    let address = self.place_of(lookupd).listens;
                    args.extend(words(&format!("-lookupd-tcp-address {address}")));
                }
                args
            }
            Kind::Dashboard => {
                let listens = self.place_of(name).listens;
                let mut args = words(&format!("dashboard --http-address {listens}"));
                args.extend(["--data-dir".into(), directory]);
                args.extend(self.lookupds());
                args
            }
            Kind::Process => self.process(name, directory),
            Kind::Produce => self.produce(directory),
            Kind::GoNsq => {
                let nsqds: Vec<String> = self
                    .of_kind(Kind::Nsqd)
                    .map(|nsqd| self.place_of(nsqd).found.to_string())
                    .collect();
                words(&format!(
                    "-mode site -text-ids -twice -nsqd-tcp-address {} -topic {TOPIC} -num-videos 1000 -rate {}",
                    nsqds.join(","),
                    self.options.foreign
                ))
            }
        }
    }

    fn process(&self, name: Name, directory: String) -> Vec<String> {
        // The programs that are none of ours agree on where a play's own id is.
        let [id_field, place] = crate::foreign::ID_FIELD;
        let mut args = words(&format!(
            "process {id_field} {place} --consumer-opt {MSG_TIMEOUT} --consumer-opt lookupd_poll_interval,5s --update-interval 1s"
        ));
        args.extend(["--data-dir".into(), directory]);
        args.extend(self.lookupds());
        for dashboard in self.of_kind(Kind::Dashboard) {
            let found = self.place_of(dashboard).found;
            args.extend(words(&format!("--dashboard-url http://{found}")));
        }
        if self.database.is_some() {
            let link = self.links.get(&name).map(Link::addr);
            let found = link.unwrap_or_else(|| self.place_of(Name::POSTGRES).found);
            args.extend(["--ledger".into(), Database::url(found)]);
        }
        args
    }

    fn produce(&self, directory: String) -> Vec<String> {
        let Options { plays, num_videos, .. } = &self.options;
        let first = self.place_of(Name::new(Kind::Dashboard, 1)).found;
        let mut args = words(&format!(
            "produce --dashboard-url http://{first} --num-videos {num_videos} --num-messages {} \
                     --republish-after 2s --producer-opt dial_timeout,500ms",
            self.options.plays_of_producer(),
        ));
        args.extend(["--data-dir".into(), directory]);
        if *plays > 0 {
            args.extend(words(&format!(
                "--rate {}",
                plays.div_ceil(self.options.producers as u64)
            )));
        }
        args.extend(self.lookupds());
        args
    }

    fn lookupds(&self) -> Vec<String> {
        let of = |name| format!("--lookupd-http-address {}", self.place_of(name).http);
        self.of_kind(Kind::Nsqlookupd).flat_map(|name| words(&of(name))).collect()
    }
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(String::from).collect()
}
