//! Whom dashboards, nsqds and nsqlookupds must prove to be over TLS: what options and `SSL_CERT_FILE` say.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use nsq_protocol::TlsConfig;
use ureq::http::Uri;

use crate::command::shared::token::{read_token, webhook_url, write_token};
use crate::dashboard::WebhookConfig;
use crate::model::dashboard_index::DashboardIndex;
use crate::nsqd::http_tls::HttpTls;
use crate::wire::client::{DashboardClient, RefusedCall};

/// The variable that names the file of trusted certificate authorities, as programs with OpenSSL know it.
const VARIABLE: &str = "SSL_CERT_FILE";

/// How an address begins that is spoken to over TLS.
const HTTPS: &str = "https://";

/// The dashboards at those URLs, with the authorities of `--dashboard-ca`, or of `SSL_CERT_FILE`, or those that browsers
/// trust.
///
/// # Errors
/// One is no URL or is given twice, or there are too many; the file holds no certificate, or no URL needs it.
pub(crate) fn dashboards(
    urls: &[String],
    token: Option<&str>,
    ca: Option<String>,
) -> Result<Vec<DashboardClient>> {
    if urls.len() > DashboardIndex::MAX {
        let (given, most) = (urls.len(), DashboardIndex::MAX);
        bail!("--dashboard-url is given {given} times: a processor has at most {most} dashboards");
    }
    urls.iter().try_for_each(|url| check_url(url))?;
    let is_secure = urls.iter().any(|url| is_https(url));
    let tls = trusted(TlsConfig::new(), ca, "--dashboard-ca", "--dashboard-url", is_secure)?;
    let mut dashboards: Vec<DashboardClient> = Vec::new();
    for url in urls {
        let dashboard = DashboardClient::with_tls(url, token.map(str::to_owned), tls.clone());
        let is_same = |other: &DashboardClient| other.url().eq_ignore_ascii_case(dashboard.url());
        if dashboards.iter().any(is_same) {
            bail!("--dashboard-url {url} is given twice: once is enough");
        }
        dashboards.push(dashboard);
    }
    Ok(dashboards)
}

/// The one at that URL.
///
/// # Errors
/// As [`dashboards`].
pub(crate) fn dashboard(
    url: String,
    token: Option<&str>,
    ca: Option<String>,
) -> Result<DashboardClient> {
    dashboards(&[url], token, ca)?.pop().context("one URL is one dashboard")
}

/// Says of a call that a dashboard does not know that it is an older one, and what it `lacks`; other errors stay as they are.
pub(crate) fn name_older_dashboard(error: anyhow::Error, lacks: &str) -> anyhow::Error {
    let is_unknown = error.downcast_ref::<RefusedCall>().is_some_and(RefusedCall::is_unknown);
    if !is_unknown {
        return error;
    }
    error.context(format!(
        "the dashboard is of an older version, which {lacks}: start the new one there first"
    ))
}

/// The one at that URL, with the token for writes that options, a file or the environment give.
///
/// # Errors
/// As [`dashboards`] and [`write_token`].
pub(crate) fn writable_dashboard(
    url: String,
    ca: Option<String>,
    token: Option<String>,
    token_file: Option<String>,
) -> Result<DashboardClient> {
    dashboard(url, write_token(token, token_file)?.as_deref(), ca)
}

/// The same with the token for reads.
///
/// # Errors
/// As [`dashboards`] and [`read_token`].
pub(crate) fn readable_dashboard(
    url: String,
    ca: Option<String>,
    token: Option<String>,
    token_file: Option<String>,
) -> Result<DashboardClient> {
    dashboard(url, read_token(token, token_file)?.as_deref(), ca)
}

/// Whom to tell of alarms, as options, a file or the environment say: the URL, the least `pause` between two calls, and the
/// authorities of `--alert-webhook-ca`, or of `SSL_CERT_FILE`, or those that browsers trust. `None`: nobody.
///
/// # Errors
/// As [`write_token`]; or it is no URL, which is not quoted, as a secret may be in it; or as [`dashboards`].
pub(crate) fn webhook(
    typed: Option<String>,
    file: Option<String>,
    pause: Duration,
    ca: Option<String>,
) -> Result<Option<WebhookConfig>> {
    let Some(url) = webhook_url(typed, file)? else {
        if ca.is_some() {
            bail!("--alert-webhook-ca is for --alert-webhook, and none is given");
        }
        return Ok(None);
    };
    if http_url(&url).is_none() {
        bail!(
            "--alert-webhook is no URL that begins with http:// or https://, such as https://chat.example.org/hooks/SECRET"
        );
    }
    let tls =
        trusted(TlsConfig::new(), ca, "--alert-webhook-ca", "--alert-webhook", is_https(&url))?;
    Ok(Some(WebhookConfig { url, pause, tls }))
}

/// For the HTTP APIs at those addresses: the authorities of `--nsqd-http-ca`, or what the options of a consumer or producer
/// say of TLS, or the authorities of `SSL_CERT_FILE`, or those that browsers trust.
///
/// # Errors
/// A file holds no certificate, or no address needs it.
pub(crate) fn nsq_tls(
    ca: Option<String>,
    connection: Option<&TlsConfig>,
    nsqds: &[String],
    lookupds: &[String],
) -> Result<HttpTls> {
    let is_secure = nsqds.iter().chain(lookupds).any(|address| is_https(address));
    let addresses = "--nsqd-http-address or --lookupd-http-address";
    let own = connection.cloned().unwrap_or_default();
    let nsqd = trusted(own, ca, "--nsqd-http-ca", addresses, is_secure)?;
    // The name is an nsqd's.
    let lookupd = nsqd.clone().server_name_of_address();
    Ok(HttpTls { nsqd, lookupd })
}

/// `tls` with the authorities of the file `ca`, which `option` names for `addresses`; else of `SSL_CERT_FILE`, where it has
/// none yet.
fn trusted(
    mut tls: TlsConfig,
    ca: Option<String>,
    option: &str,
    addresses: &str,
    is_secure: bool,
) -> Result<TlsConfig> {
    match ca {
        Some(_) if !is_secure => {
            bail!("{option} is for {addresses} that begins with {HTTPS}, and none does")
        }
        None if !is_secure => return Ok(tls),
        Some(ca) => {
            tls = tls.root_ca_files([ca]);
            tls.check().context(option.to_owned())?;
        }
        None => {
            let file = std::env::var_os(VARIABLE).filter(|file| !file.is_empty());
            if let Some(file) = file.filter(|_| tls.get_root_ca_files().is_empty()) {
                tls = tls.root_ca_file(file);
                tls.check().context(VARIABLE)?;
            }
        }
    }
    Ok(tls)
}

fn is_https(address: &str) -> bool {
    address.get(..HTTPS.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(HTTPS))
}

/// The parts of a URL of `http` or `https` with a host.
fn http_url(url: &str) -> Option<Uri> {
    let uri = url.parse::<Uri>().ok()?;
    let has_host = uri.host().is_some_and(|host| !host.is_empty());
    (matches!(uri.scheme_str(), Some("http" | "https")) && has_host).then_some(uri)
}

fn check_url(url: &str) -> Result<()> {
    if http_url(url).is_none_or(|uri| uri.query().is_some()) {
        bail!(
            "--dashboard-url {url:?} is not the URL of a dashboard, such as http://127.0.0.1:8000 or https://host/playcounts/"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dashboard_has_a_url() {
        for good in [
            "http://h",
            "http://127.0.0.1:8000/",
            "https://h/playcounts/",
            "HTTPS://h:1",
            "http://[::1]:8",
        ] {
            check_url(good).unwrap();
        }
        for bad in ["", "h", "127.0.0.1:8000", "ftp://h", "http://", "https://h/?a=b", "http://h h"]
        {
            let error = check_url(bad).unwrap_err().to_string();
            assert!(error.contains("is not the URL of a dashboard"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_file_of_authorities_needs_an_address_that_uses_it() {
        let urls = ["http://h".to_owned()];
        let error = dashboards(&urls, None, Some("ca.pem".to_owned())).unwrap_err().to_string();
        assert_eq!(
            error,
            "--dashboard-ca is for --dashboard-url that begins with https://, and none does"
        );
        let error = nsq_tls(Some("ca.pem".to_owned()), None, &["h:1".to_owned()], &[]).unwrap_err();
        assert!(error.to_string().starts_with("--nsqd-http-ca is for"), "{error}");
        let https = ["https://h:1".to_owned()];
        let error = nsq_tls(Some("/no/ca.pem".to_owned()), None, &[], &https).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "--nsqd-http-ca: cannot read /no/ca.pem: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn the_options_of_the_tcp_connection_serve_for_nsqds_http_api_too() {
        let own = TlsConfig::new().root_ca_file("own.pem").server_name("nsqd");
        let own = own.client_certificate("me.pem", "me.key");
        let https = ["https://h:1".to_owned()];
        let tls = nsq_tls(None, Some(&own), &https, &[]).unwrap();
        assert_eq!(tls.nsqd, own);
        assert_eq!(tls.lookupd, own.server_name_of_address());
    }
}
