//! Sends a processor's reports: to a dashboard of an older version without what that does not know. Runs on the publisher's thread.

use anyhow::Result;
use uuid::Uuid;

use crate::wire::ConsumptionReport;
use crate::wire::client::{DashboardClient, RefusedCall};

/// Where reports go.
const PATH: &str = "/api/consumption";

/// So many reports go without what was refused before it is tried again: the dashboard may have been replaced by a newer one.
/// A minute.
const WITHOUT: u32 = 60;

/// Sends reports to one dashboard.
#[derive(Debug, Default)]
pub(super) struct ReportPost {
    /// So many of the next reports tell nothing of a shared ledger.
    without: u32,
    /// That was said.
    has_warned: bool,
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
        if self.without > 0 {
            self.without -= 1;
            report.consumption.ledger_status = None;
        }
        let posted = dashboard.post(PATH, &report);
        let is_unread = |error: &anyhow::Error| {
            error.downcast_ref::<RefusedCall>().is_some_and(RefusedCall::is_unread)
        };
        let has_newer = report.consumption.ledger_status.is_some() || report.ending.is_some();
        if posted.as_ref().is_err_and(is_unread) && has_newer {
            report.ending = None;
            if report.consumption.ledger_status.is_none() {
                return dashboard.post(PATH, &report);
            }
            if !std::mem::replace(&mut self.has_warned, true) {
                log::warn!(
                    "the dashboard at {} is of an older version: it does not show who shares the ledger",
                    dashboard.url()
                );
            }
            self.without = WITHOUT;
            report.consumption.ledger_status = None;
            return dashboard.post(PATH, &report);
        }
        posted
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;

    use nsq_protocol::thread::OwnedThread;

    use super::*;
    use crate::wire::{Consumption, LedgerKind, LedgerStatus, Written};

    /// Answers so many reports as a dashboard does that does not know the field; which of them had it.
    fn older_dashboard(listener: TcpListener, reports: usize) -> Vec<bool> {
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
            let has_it = String::from_utf8(body).unwrap().contains("ledger_status");
            let written = Written { accepted: 1, dashboard: Uuid::from_u128(5) };
            let (status, body) = match has_it {
                true => ("400 Bad Request", "{\"error\":\"unknown field\"}".to_owned()),
                false => ("200 OK", serde_json::to_string(&written).unwrap()),
            };
            let length = body.len();
            write!(
                stream.get_mut(),
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            )
            .unwrap();
            has_it
        };
        (0..reports).map(|_| answer(listener.accept().unwrap().0)).collect()
    }

    #[test]
    fn an_older_dashboard_gets_reports_without_what_it_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        // The first one twice, those that go without, and twice again.
        let reports = 2 + WITHOUT as usize + 2;
        let server =
            OwnedThread::spawn("older", move || older_dashboard(listener, reports)).unwrap();
        let dashboard = DashboardClient::new(&url, None);
        let mut post = ReportPost::default();
        for _ in 0..WITHOUT + 2 {
            let status = LedgerStatus { kind: LedgerKind::Postgres, ..LedgerStatus::default() };
            let consumption =
                Consumption { ledger_status: Some(Box::new(status)), ..Consumption::default() };
            let processor = Uuid::from_u128(1);
            let report = ConsumptionReport { processor, instance: None, consumption, ending: None };
            assert_eq!(post.post(&dashboard, report).unwrap(), Some(Uuid::from_u128(5)));
        }
        let had_it = server.join();
        let told: Vec<_> = (0..reports).filter(|index| had_it[*index]).collect();
        assert_eq!(told, [0, reports - 2]);
    }
}
