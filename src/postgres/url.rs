//! A connection string, as libpq writes them, taken apart: `postgres://…` or `key=value …`. (pure)
//!
//! What stands in it may be a password, so no error shows anything but the names of parameters.

use percent_encoding::percent_decode_str;

/// Of a connection string, bytes.
const MAX_URL: usize = 16 << 10;

/// Parameters in the order in which they stand there; a later one of the same name wins.
pub(super) type UrlParameters = Vec<(String, String)>;

/// Takes a connection string apart; what is wrong with it, if it is.
pub(super) fn parse(text: &str) -> Result<UrlParameters, String> {
    if text.len() > MAX_URL {
        return Err(format!("longer than {MAX_URL} bytes"));
    }
    let behind =
        ["postgres://", "postgresql://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    match behind {
        Some(rest) => parse_url(rest),
        // Behind a '=' it is a piece of a value: a password may hold it.
        None if text.split('=').next().is_some_and(|key| key.contains("://")) => {
            Err("it begins with postgres://".to_owned())
        }
        None if text.contains('=') => parse_pairs(text),
        None => Err("neither postgres://user@host/database nor host=… dbname=…".to_owned()),
    }
}

fn parse_url(rest: &str) -> Result<UrlParameters, String> {
    let mut all = UrlParameters::new();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, behind) = rest.split_at(end);
    // A password with a '/' in it would be taken for hosts and a path.
    let (before_query, query) = behind.split_once('?').unwrap_or((behind, ""));
    if before_query.contains('@') {
        return Err(
            "a '/', '?' or '@' in user, password or database must be written %2F, %3F or %40"
                .to_owned(),
        );
    }
    let hosts = match authority.rsplit_once('@') {
        Some((login, hosts)) => {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            put(&mut all, "user", user)?;
            put(&mut all, "password", password)?;
            hosts
        }
        None => authority,
    };
    parse_hosts(hosts, &mut all)?;
    put(&mut all, "dbname", before_query.strip_prefix('/').unwrap_or_default())?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some((name, value)) = pair.split_once('=') else {
            return Err("a parameter behind the '?' has no '='".to_owned());
        };
        let value = decode(name, value)?;
        // As JDBC writes it.
        match (name, value.as_str()) {
            ("ssl", "true") => all.push(("sslmode".to_owned(), "require".to_owned())),
            _ => all.push((name.to_owned(), value)),
        }
    }
    Ok(all)
}

/// `host:port,host2:port2`, where a host may be an IPv6 address in brackets.
fn parse_hosts(hosts: &str, all: &mut UrlParameters) -> Result<(), String> {
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',') {
        let (name, port) = match host.strip_prefix('[') {
            Some(bracketed) => {
                let (name, behind) =
                    bracketed.split_once(']').ok_or("a '[' of a host has no ']'")?;
                let port = match behind {
                    "" => "",
                    _ => behind
                        .strip_prefix(':')
                        .ok_or("behind the ']' of a host comes a ':' and a port")?,
                };
                (name, port)
            }
            None => host.split_once(':').unwrap_or((host, "")),
        };
        names.push(decode("host", name)?);
        ports.push(decode("port", port)?);
    }
    // libpq's own lists are divided by commas, too.
    for (key, values) in [("host", names), ("port", ports)] {
        if values.iter().any(|value| !value.is_empty()) {
            all.push((key.to_owned(), values.join(",")));
        }
    }
    Ok(())
}

fn put(all: &mut UrlParameters, key: &str, encoded: &str) -> Result<(), String> {
    if !encoded.is_empty() {
        all.push((key.to_owned(), decode(key, encoded)?));
    }
    Ok(())
}

fn decode(key: &str, encoded: &str) -> Result<String, String> {
    let digits =
        |part: &str| part.len() >= 2 && part.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit);
    if !encoded.split('%').skip(1).all(digits) {
        return Err(format!(
            "{}: a '%' without two hexadecimal digits; itself it is %25",
            name_of(key)
        ));
    }
    let decoded = percent_decode_str(encoded).decode_utf8();
    let decoded = decoded.map_err(|_| format!("{} is not UTF-8", name_of(key)))?;
    if decoded.contains('\0') {
        return Err(format!("{} holds a zero byte", name_of(key)));
    }
    Ok(decoded.into_owned())
}

/// `key = 'value' key2=value2`, where a backslash takes the next character as it is.
fn parse_pairs(text: &str) -> Result<UrlParameters, String> {
    let mut all = UrlParameters::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, behind) = rest.split_once('=').ok_or("a parameter has no '='")?;
        let (value, behind) = parse_value(behind.trim_start())?;
        all.push((key.trim_end().to_owned(), value));
        rest = behind.trim_start();
    }
    Ok(all)
}

/// The value that a text begins with, and what stands behind it.
fn parse_value(text: &str) -> Result<(String, &str), String> {
    let (quoted, body) = match text.strip_prefix('\'') {
        Some(body) => (true, body),
        None => (false, text),
    };
    let mut value = String::new();
    let mut chars = body.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => match chars.next() {
                Some((_, '\0')) | None => return Err("a '\\' has nothing behind it".to_owned()),
                Some((_, next)) => value.push(next),
            },
            '\'' if quoted => return Ok((value, &body[at + 1..])),
            _ if !quoted && char.is_ascii_whitespace() => return Ok((value, &body[at..])),
            '\0' => return Err("it holds a zero byte".to_owned()),
            _ => value.push(char),
        }
    }
    if quoted { Err("a value's quote is not closed".to_owned()) } else { Ok((value, "")) }
}

/// A parameter's name as an error shows it: what cannot be one may be a piece of a password.
pub(super) fn name_of(key: &str) -> &str {
    let is_name =
        key.len() <= 40 && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if is_name && !key.is_empty() { key } else { "a parameter" }
}

#[cfg(test)]
mod tests;
