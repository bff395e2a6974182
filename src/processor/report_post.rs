//! Sends a processor's reports: to a dashboard of an older version without what that does not know. Runs on the publisher's thread.

use anyhow::Result;
use uuid::Uuid;

use crate::wire::client::{DashboardClient, RefusedCall};
use crate::wire::{Consumption, ConsumptionReport};

/// Where reports go.
const PATH: &str = "/api/consumption";

/// So many reports go without what was refused before it is tried again: the dashboard may have been replaced by a newer one.
/// A minute.
const WITHOUT: u32 = 60;

/// Takes something out of a report; whether it was there.
type TakeOut = fn(&mut ConsumptionReport) -> bool;

/// What older dashboards do not know, the newest first, and what is missing from them without it.
const NEWER: [(&str, TakeOut); 3] = [
    ("its percentiles are rough, and its total moves with publications only", |report| {
        let Consumption { histogram, publication, .. } = &mut report.consumption;
        let told = histogram.as_deref_mut();
        let has_fine = told.is_some_and(|told| !std::mem::take(&mut told.fine).is_empty());
        publication.take().is_some() | has_fine
    }),
    ("it does not show that this processor ended in order", |report| {
        report.ending.take().is_some()
    }),
    ("it does not show who shares the ledger", |report| {
        report.consumption.ledger_status.take().is_some()
    }),
];

/// Sends reports to one dashboard.
#[derive(Debug, Default)]
pub(super) struct ReportPost {
    /// So many of the next reports go without what was refused.
    without: u32,
    /// And that is so many of [`NEWER`].
    refused: usize,
    /// So many were told to be missing.
    warned: usize,
}

impl ReportPost {
    /// Sends a report. Returns the id of the dashboard's database.
    ///
    /// # Errors
    /// As [`DashboardClient::post`].
    pub(super) fn post(
        &mut self,
        dashboard: &DashboardClient,
        mut report: ConsumptionReport,
    ) -> Result<Option<Uuid>> {
        if self.without == 0 {
            self.refused = 0;
        }
        self.without = self.without.saturating_sub(1);
        for (_, take_out) in &NEWER[..self.refused] {
            take_out(&mut report);
        }
        loop {
            let posted = dashboard.post(PATH, &report);
            let is_unread = |error: &anyhow::Error| {
                error.downcast_ref::<RefusedCall>().is_some_and(RefusedCall::is_unread)
            };
            if !posted.as_ref().is_err_and(is_unread) {
                return posted;
            }
            let mut left = (self.refused..).zip(&NEWER[self.refused..]);
            let Some((found, (missing, _))) = left.find(|(_, (_, take_out))| take_out(&mut report))
            else {
                return posted;
            };
            (self.refused, self.without) = (found + 1, WITHOUT);
            if self.warned <= found {
                self.warned = found + 1;
                log::warn!(
                    "the dashboard at {} is of an older version: {missing}",
                    dashboard.url()
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;

    use nsq_protocol::thread::OwnedThread;

    use super::*;
    use crate::wire::{ConsumptionHistogram, LedgerKind, LedgerStatus, Written};

    /// Answers so many reports as a dashboard does that does not know some fields; which of them each report had.
    fn older_dashboard(
        listener: TcpListener,
        reports: usize,
        unknown: &'static [&'static str],
    ) -> Vec<Vec<&'static str>> {
        let answer = |stream: std::net::TcpStream| {
            let mut stream = BufReader::new(stream);
            let (mut length, mut line) = (0, String::new());
            while stream.read_line(&mut line).unwrap() > 2 {
                let (name, value) = line.split_once(':').unwrap_or_default();
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let body = String::from_utf8(body).unwrap();
            let had = |field: &&&str| body.contains(&format!("\"{field}\":"));
            let had: Vec<_> = FIELDS.iter().filter(had).copied().collect();
            let written = Written { accepted: 1, dashboard: Uuid::from_u128(5) };
            let (status, body) = match had.iter().any(|field| unknown.contains(field)) {
                true => ("400 Bad Request", "{\"error\":\"unknown field\"}".to_owned()),
                false => ("200 OK", serde_json::to_string(&written).unwrap()),
            };
            let length = body.len();
            write!(
                stream.get_mut(),
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            )
            .unwrap();
            had
        };
        (0..reports).map(|_| answer(listener.accept().unwrap().0)).collect()
    }

    const FIELDS: [&str; 2] = ["fine", "ledger_status"];

    fn report() -> ConsumptionReport {
        let status = LedgerStatus { kind: LedgerKind::Postgres, ..LedgerStatus::default() };
        let histogram = ConsumptionHistogram {
            fine: vec![(5, 1)],
            count: 1,
            ..ConsumptionHistogram::default()
        };
        let consumption = Consumption {
            ledger_status: Some(Box::new(status)),
            histogram: Some(Box::new(histogram)),
            ..Consumption::default()
        };
        let processor = Uuid::from_u128(1);
        ConsumptionReport { processor, instance: None, consumption, ending: None }
    }

    /// Posts until what was refused is tried again; what each report had that the dashboard got.
    fn posted(unknown: &'static [&'static str]) -> Vec<Vec<&'static str>> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        // The first one is told once more for each that is refused, and so is the one behind those that go without.
        let reports = 2 * (1 + unknown.len()) + WITHOUT as usize;
        let server =
            OwnedThread::spawn("older", move || older_dashboard(listener, reports, unknown))
                .unwrap();
        let dashboard = DashboardClient::new(&url, None);
        let mut post = ReportPost::default();
        for _ in 0..WITHOUT + 2 {
            assert_eq!(post.post(&dashboard, report()).unwrap(), Some(Uuid::from_u128(5)));
        }
        server.join()
    }

    #[test]
    fn an_older_dashboard_gets_reports_without_what_it_refuses() {
        // One of 0.1.0 knows of shared ledgers.
        let mut had = posted(&["fine"]);
        let again = had.split_off(2 + WITHOUT as usize);
        assert_eq!(had[0], FIELDS);
        assert!(had[1..].iter().all(|fields| fields == &["ledger_status"]));
        assert_eq!(again, [FIELDS.to_vec(), vec!["ledger_status"]]);

        let mut had = posted(&FIELDS);
        let again = had.split_off(3 + WITHOUT as usize);
        assert_eq!(had[..2], [FIELDS.to_vec(), vec!["ledger_status"]]);
        assert!(had[2..].iter().all(Vec::is_empty));
        assert_eq!(again, [FIELDS.to_vec(), vec!["ledger_status"], vec![]]);
    }
}
