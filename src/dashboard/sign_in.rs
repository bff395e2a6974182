//! The form to sign in, and the way out: `/sign-in` and `/sign-out` of a dashboard that has a read token.

use std::time::Instant;

use super::answer::{CallError, CallResult, Status, uncached};
use super::app::App;
use super::assets;
use super::guard::{WhoReads, seconds};
use super::tokens::SignInSession;
use crate::http::{Request, Response};

/// The page, with places for what changes.
const PAGE: &str = include_str!("page/sign-in.html");

/// No script, and a form that goes here alone.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; \
    form-action 'self'; frame-ancestors 'none'";

/// The longest query that a sign-in leads back to, in bytes: that of a view is far below it.
const TO_MAX: usize = 2000;

/// The answer to a request for one of the two; `None`: it is for something else.
pub(super) fn answer(app: &App, request: &Request) -> Option<CallResult> {
    let is_read = matches!(request.method.as_str(), "GET" | "HEAD");
    let is_post = request.method == "POST";
    match request.path.as_str() {
        "/sign-in" if is_read => Some(form(app, request)),
        "/sign-in" if is_post => Some(sign_in(app, request)),
        "/sign-in" => {
            Some(Err(CallError::not_allowed(&request.method, "GET, HEAD, POST".to_owned())))
        }
        "/sign-out" if is_post => Some(sign_out(app, request)),
        "/sign-out" => Some(Err(CallError::not_allowed(&request.method, "POST".to_owned()))),
        _ => None,
    }
}

/// Sends who may not see the page to the form, which leads back to what was asked for.
pub(super) fn ask_to(request: &Request) -> Response {
    let to = query(request.query.iter().map(|(key, value)| (&**key, &**value)));
    let to = query([("to", &*to)].into_iter().filter(|(_, to)| !to.is_empty()));
    redirect(&with_query("sign-in", &to))
}

fn form(app: &App, request: &Request) -> CallResult {
    let to = back_to(request.get("to").unwrap_or_default());
    Ok(match app.guard.reader(request) {
        // It needs no sign-in, or has done so.
        Ok(WhoReads::Anyone | WhoReads::Person(_)) => redirect(&with_query("./", &to)),
        _ => page(200, &to, None),
    })
}

fn sign_in(app: &App, request: &Request) -> CallResult {
    app.guard.check_own_page(request)?;
    let fields: Vec<_> = form_urlencoded::parse(&request.body).take(8).collect();
    let field = |wanted: &str| {
        fields.iter().find(|(name, _)| name == wanted).map_or("", |(_, value)| &**value)
    };
    let to = back_to(field("to"));
    let token = match app.guard.opens(field("token").trim(), request, Instant::now()) {
        Ok(Some(token)) => token,
        // A dashboard that is not private.
        Ok(None) => return Ok(redirect(&with_query("./", &to))),
        Err(error) if error.status() == Status::TooManyRequests => {
            return Ok(page(
                429,
                &to,
                Some(
                    "Too many wrong tokens came from your address. Wait a minute, then try again.",
                ),
            ));
        }
        Err(_) => {
            return Ok(page(
                401,
                &to,
                Some(
                    "That is not the token. Nothing may be left out, and upper and lower case count.",
                ),
            ));
        }
    };
    let session = SignInSession::begin(seconds(), app.guard.is_secure(request));
    Ok(redirect(&with_query("./", &to)).with_header("Set-Cookie", token.cookie(session)))
}

fn sign_out(app: &App, request: &Request) -> CallResult {
    app.guard.check_own_page(request)?;
    if let Ok(WhoReads::Person(session)) = app.guard.reader(request) {
        app.guard.sign_out(session.id);
        app.events.end_of(session.id);
    }
    let answer = redirect("sign-in");
    Ok(match app.guard.no_cookie() {
        Some(no_cookie) => answer.with_header("Set-Cookie", no_cookie),
        None => answer,
    })
}

fn page(status: u16, to: &str, wrong: Option<&str>) -> Response {
    let error =
        wrong.map(|text| format!("<p id=\"wrong\" class=\"wrong\" role=\"alert\">{text}</p>"));
    let described =
        if wrong.is_some() { " aria-invalid=\"true\" aria-describedby=\"wrong\"" } else { "" };
    // What `query` has written holds nothing but `&` that means something in an attribute.
    let page = PAGE.replace("{described}", described).replace("{to}", &to.replace('&', "&amp;"));
    let page = page.replace("{error}", &error.unwrap_or_default());
    let answer = uncached(Response::new(status, assets::HTML, page));
    answer.with_header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
}

fn redirect(to: &str) -> Response {
    // From where the browser is: a proxy may have put all of it under a path.
    uncached(Response::text(303, "")).with_header("Location", to)
}

fn with_query(path: &str, query: &str) -> String {
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// A query that somebody asks to be led back to, written anew: whatever it was, it is a query of the page then.
fn back_to(asked: &str) -> String {
    let pairs: Vec<_> = form_urlencoded::parse(asked.as_bytes()).take(64).collect();
    let to = query(pairs.iter().map(|(key, value)| (&**key, &**value)));
    if to.len() > TO_MAX { String::new() } else { to }
}

fn query<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_leads_back_to_the_page_and_nowhere_else() {
        for (asked, want) in [
            ("", ""),
            ("view=queue", "view=queue"),
            ("view=video&video=a%2Fb", "view=video&video=a%2Fb"),
            ("//evil.example/", "%2F%2Fevil.example%2F="),
            ("a=b\r\nSet-Cookie: c", "a=b%0D%0ASet-Cookie%3A+c"),
            ("a=\"><script>", "a=%22%3E%3Cscript%3E"),
        ] {
            assert_eq!(back_to(asked), want);
        }
        assert_eq!(back_to(&"x".repeat(3000)), "");
        let request = Request {
            query: vec![
                ("view".to_owned(), "video".to_owned()),
                ("video".to_owned(), "a&b".to_owned()),
            ],
            ..Request::default()
        };
        let answer = ask_to(&request);
        let location = answer.headers.iter().find(|(name, _)| *name == "Location").unwrap();
        assert_eq!(location.1, "sign-in?to=view%3Dvideo%26video%3Da%2526b");
        let shown = String::from_utf8(page(401, "a=b&c=%22", Some("No.")).body).unwrap();
        assert!(shown.contains("value=\"a=b&amp;c=%22\"") && shown.contains(">No.<"), "{shown}");
        assert!(!shown.contains('{'), "{shown}");
    }
}
