//! Figures in frames of other sites: the page `/embed`, of a dashboard that names sites which may show it.

use super::answer::{CallError, CallResult};
use super::assets::{self, File};
use super::guard::Guard;
use crate::http::Request;

/// Where it is.
const PATH: &str = "/embed";

/// The page that frames show, and where.
pub(super) struct Embed {
    page: File,
    /// The page's policy, which names the sites.
    policy: String,
}

impl Embed {
    /// For those sites, such as `https://blog.example.org`; `None`: there are none.
    pub(super) fn new(sites: &[String]) -> Option<Self> {
        if sites.is_empty() {
            return None;
        }
        let policy = assets::CONTENT_SECURITY_POLICY
            .replace("form-action 'self'", "form-action 'none'")
            .replace("frame-ancestors 'none'", &format!("frame-ancestors {}", sites.join(" ")));
        let page = File::new(assets::HTML, include_bytes!("page/embed.html").as_slice());
        Some(Self { page, policy })
    }

    /// The answer to a request for the page; `None`: it is for something else.
    pub(super) fn answer(&self, guard: &Guard, request: &Request) -> Option<CallResult> {
        if request.path != PATH {
            return None;
        }
        if !matches!(request.method.as_str(), "GET" | "HEAD") {
            return Some(Err(CallError::not_allowed(&request.method, "GET, HEAD".to_owned())));
        }
        // Not the form to sign in, which no frame may show.
        if let Err(error) = guard.reader(request) {
            return Some(Err(error));
        }
        let mut page = self.page.answer(request);
        page.headers.retain(|(name, _)| *name != "Content-Security-Policy");
        let page = page.with_header("Content-Security-Policy", self.policy.clone());
        // It can name no site; the policy does.
        Some(Ok(page.with_header("X-Frame-Options", "")))
    }
}
