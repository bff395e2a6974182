//! Which of the options that are given change nothing.

use super::tls::TlsMinVersion;
use super::{BrokerArgs, size, time};
use crate::broker::BrokerConfig;

impl BrokerArgs {
    /// Warns of them, in a line for each reason.
    pub(super) fn warn_of_no_effect(&self) {
        for (options, why) in [
            (self.of_nsqd_alone(), "taken as nsqd takes it, and without effect here"),
            (self.of_the_disk(), "without effect, because there is no --data-path"),
            (self.of_tls(), "without effect, because there is no --tls-cert"),
        ] {
            if !options.is_empty() {
                log::warn!("{}: {why}", options.join(", "));
            }
        }
    }

    /// The options of nsqd that mean nothing here.
    fn of_nsqd_alone(&self) -> Vec<&'static str> {
        given([
            ("--max-bytes-per-file", self.max_bytes_per_file.is_some()),
            ("--queue-scan-selection-count", self.queue_scan_selection_count.is_some()),
            ("--queue-scan-worker-pool-max", self.queue_scan_worker_pool_max.is_some()),
            ("--node-id", self.node_id.is_some()),
            ("--worker-id", self.worker_id),
            ("--log-prefix", self.log_prefix.is_some()),
            ("--verbose", self.verbose),
        ])
    }

    /// Those of messages on disk, where all are in memory. One that says its default asks for nothing: a file that `playcounts
    /// config` has printed says all of them, and one of nsqd may.
    fn of_the_disk(&self) -> Vec<&'static str> {
        if self.data_path.is_some() {
            return Vec::new();
        }
        let usual = BrokerConfig::default();
        given([
            ("--max-disk", self.max_disk.is_some()),
            ("--sync-every", size(self.sync_every, usual.sync_every) != usual.sync_every),
            ("--sync-timeout", time(self.sync_timeout, usual.sync_timeout) != usual.sync_timeout),
        ])
    }

    /// Likewise those of TLS, where none is spoken.
    fn of_tls(&self) -> Vec<&'static str> {
        if self.tls_cert.is_some() {
            return Vec::new();
        }
        let usual = BrokerConfig::default().https_address;
        let is_own = |address: &String| !address.is_empty() && Some(address) != usual.as_ref();
        // Authorization servers may be asked over TLS without it.
        let is_newer = self.tls_min_version == Some(TlsMinVersion::Tls13);
        given([
            ("--https-address", self.https_address.as_ref().is_some_and(is_own)),
            ("--tls-min-version", is_newer && !self.asks_over_https()),
        ])
    }
}

fn given<const N: usize>(options: [(&'static str, bool); N]) -> Vec<&'static str> {
    options.into_iter().filter_map(|(name, is_given)| is_given.then_some(name)).collect()
}

#[cfg(test)]
mod tests {
    use argh::FromArgs;

    use super::*;

    #[test]
    fn an_option_that_lacks_another_is_told_unless_it_says_its_default() {
        let disk = ["--max-disk", "9", "--sync-every", "9", "--sync-timeout", "9s"];
        let tls = ["--https-address", "127.0.0.1:0", "--tls-min-version", "tls1.3"];
        let usual = [
            "--sync-every",
            "2500",
            "--sync-timeout",
            "2s",
            "--https-address",
            "127.0.0.1:4152",
            "--tls-min-version",
            "tls1.2",
            "--durability",
            "process",
        ];
        let asking = |url| [&tls[..], &["--auth-http-address", url]].concat();
        for (options, want_disk, want_tls) in [
            (vec![], vec![], vec![]),
            (usual.to_vec(), vec![], vec![]),
            (disk.to_vec(), vec!["--max-disk", "--sync-every", "--sync-timeout"], vec![]),
            (disk[..2].to_vec(), vec!["--max-disk"], vec![]),
            ([&disk[..], &["--data-path", "d"]].concat(), vec![], vec![]),
            (tls.to_vec(), vec![], vec!["--https-address", "--tls-min-version"]),
            ([&tls[..], &["--tls-cert", "c"]].concat(), vec![], vec![]),
            (asking("https://a/auth"), vec![], vec!["--https-address"]),
            (asking("a:1"), vec![], vec!["--https-address", "--tls-min-version"]),
            (vec!["--https-address", ""], vec![], vec![]),
        ] {
            let args = BrokerArgs::from_args(&["broker"], &options).unwrap();
            assert_eq!((args.of_the_disk(), args.of_tls()), (want_disk, want_tls), "{options:?}");
        }
    }
}
