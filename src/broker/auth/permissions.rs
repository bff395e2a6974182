//! What an authorization server answers, and what it allows (pure).

use std::time::{Duration, Instant};

use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;
use serde_json::Value;

/// Expressions in one answer: each is kept as long as the connection.
const EXPRESSIONS_MAX: usize = 1000;

/// Bytes of one expression as it is written, and as it is compiled.
const EXPRESSION_MAX: usize = 1 << 10;
const COMPILED_MAX: usize = 64 << 10;

/// How deep an expression may be nested. The thread that compiles it has a small stack: 240 levels overflowed it in a debug build.
const DEPTH_MAX: u32 = 24;

/// What is taken for longer than anything: a hundred years.
const LONG: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Who a client is, as an authorization server says it.
#[derive(Clone, Debug)]
pub(crate) struct AuthFacts {
    pub(crate) identity: String,
    pub(crate) identity_url: String,
}

/// What a client may do, until when.
#[derive(Debug)]
pub(super) struct Permissions {
    /// Whose they are.
    pub(super) who: AuthFacts,
    pub(super) expires: Instant,
    rules: Vec<Rule>,
}

/// What it may do with the topics and channels that match.
#[derive(Debug)]
struct Rule {
    topic: Regex,
    channels: Vec<Regex>,
    may_subscribe: bool,
    may_publish: bool,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    ttl: i64,
    identity: Option<String>,
    identity_url: Option<String>,
    authorizations: Option<Vec<Authorization>>,
}

#[derive(Deserialize)]
struct Authorization {
    topic: Option<String>,
    channels: Option<Vec<String>>,
    permissions: Option<Vec<String>>,
}

impl Permissions {
    /// Reads an answer that came at `now`.
    ///
    /// # Errors
    /// Why all of it is not taken.
    pub(super) fn read(body: &[u8], now: Instant) -> Result<Self, String> {
        let answer: Answer = serde_json::from_slice(body)
            .and_then(|answer| serde_json::from_value(as_go_reads(answer)))
            .map_err(|error| format!("its answer is no such JSON object: {error}"))?;
        let mut rules = Vec::new();
        let mut left = EXPRESSIONS_MAX;
        for authorization in answer.authorizations.unwrap_or_default() {
            let channels = authorization.channels.unwrap_or_default();
            left = left
                .checked_sub(1 + channels.len())
                .ok_or_else(|| format!("its answer has over {EXPRESSIONS_MAX} expressions"))?;
            let permissions = authorization.permissions.unwrap_or_default();
            let known =
                |permission: &&String| *permission == "subscribe" || *permission == "publish";
            if let Some(unknown) = permissions.iter().find(|permission| !known(permission)) {
                return Err(format!("unknown permission {unknown:.64}"));
            }
            let has = |name: &str| permissions.iter().any(|permission| permission == name);
            rules.push(Rule {
                topic: compile("topic", &authorization.topic.unwrap_or_default())?,
                channels: channels
                    .iter()
                    .map(|channel| compile("channel", channel))
                    .collect::<Result<_, _>>()?,
                may_subscribe: has("subscribe"),
                may_publish: has("publish"),
            });
        }
        let ttl = u64::try_from(answer.ttl).ok().filter(|ttl| *ttl > 0);
        let ttl = ttl.ok_or_else(|| format!("invalid TTL {} (must be >0)", answer.ttl))?;
        Ok(Self {
            who: AuthFacts {
                identity: answer.identity.unwrap_or_default(),
                identity_url: answer.identity_url.unwrap_or_default(),
            },
            expires: now + Duration::from_secs(ttl).min(LONG),
            rules,
        })
    }

    /// How many rules there are.
    pub(super) fn count(&self) -> usize {
        self.rules.len()
    }

    /// Whether a channel may be consumed or, where it is empty, the topic be published to. As with nsqd an expression matches
    /// anywhere in a name, and one of `channels` must match the empty name of a publish.
    pub(super) fn allow(&self, topic: &str, channel: &str) -> bool {
        self.rules.iter().any(|rule| {
            let may = if channel.is_empty() { rule.may_publish } else { rule.may_subscribe };
            may && rule.topic.is_match(topic.as_bytes())
                && rule.channels.iter().any(|expression| expression.is_match(channel.as_bytes()))
        })
    }
}

/// Names of fields in any case, as Go matches them, and none that is `null`, which Go takes for nothing.
fn as_go_reads(value: Value) -> Value {
    match value {
        Value::Array(values) => values.into_iter().map(as_go_reads).collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
            fields.map(|(name, value)| (name.to_ascii_lowercase(), as_go_reads(value))).collect()
        }
        value => value,
    }
}

fn compile(what: &str, expression: &str) -> Result<Regex, String> {
    let refused = |why: String| format!("unable to compile {what} {expression:.100?}: {why}");
    if expression.len() > EXPRESSION_MAX {
        return Err(refused(format!("it is over {EXPRESSION_MAX} bytes")));
    }
    // Names are ASCII, and so are the classes of Go's expressions.
    let mut builder = RegexBuilder::new(expression);
    builder.unicode(false).size_limit(COMPILED_MAX).nest_limit(DEPTH_MAX);
    builder.build().map_err(|error| refused(error.to_string().replace('\n', " ")))
}

#[cfg(test)]
mod tests {
    use nsq_protocol::thread::OwnedThread;

    use super::*;
    use crate::broker::reader::READER_STACK;

    fn read(body: &str) -> Result<Permissions, String> {
        Permissions::read(body.as_bytes(), Instant::now())
    }

    #[test]
    fn what_is_allowed() {
        let rule = |topic: &str, channels: &str, permissions: &str| {
            let body = format!(
                r#"{{"ttl":1,"authorizations":[{{"topic":"{topic}","channels":[{channels}],"permissions":[{permissions}]}}]}}"#
            );
            read(&body).unwrap()
        };
        let both = r#""subscribe","publish""#;
        for (topic, channels, permissions, asked, want) in [
            (".*", r#"".*""#, both, ("t", "c"), true),
            (".*", r#"".*""#, both, ("t", ""), true),
            (".*", r#"".*""#, r#""subscribe""#, ("t", ""), false),
            (".*", r#"".*""#, r#""publish""#, ("t", "c"), false),
            // Anywhere in the name, unless it says otherwise.
            ("lay", r#""""#, both, ("plays", ""), true),
            ("^lay", r#""""#, both, ("plays", ""), false),
            (r"^\\w+\\.\\d$", r#""x","c$""#, both, ("a_b.7", "abc"), true),
            (".*", r#""ch""#, both, ("t", ""), false),
            (".*", "", both, ("t", "c"), false),
            (".*", r#"".*""#, "", ("t", "c"), false),
        ] {
            let permissions = rule(topic, channels, permissions);
            assert_eq!(permissions.allow(asked.0, asked.1), want, "{permissions:?} {asked:?}");
        }
    }

    /// On a stack as that of the thread that asks.
    #[test]
    fn deep_expressions_need_little_of_the_stack() {
        let read_deep = || {
            for (depth, is_taken) in [(20, true), (30, false), (500, false)] {
                let topic = format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
                let body = format!(r#"{{"ttl":1,"authorizations":[{{"topic":"{topic}"}}]}}"#);
                assert_eq!(read(&body).is_ok(), is_taken, "{depth}");
            }
        };
        let thread = OwnedThread::spawn_with_stack("broker-read", READER_STACK, read_deep);
        thread.unwrap().join();
    }

    #[test]
    fn an_answer_is_taken_whole_or_not_at_all() {
        let empty = read(r#"{"ttl":3,"identity":"me","authorizations":null}"#).unwrap();
        assert!(empty.count() == 0 && empty.who.identity == "me");
        read(r#"{"ttl":9223372036854775807}"#).unwrap();
        // As a program in Go writes its own structs.
        let go = r#"{"ttl":7,"TTL":null,"Authorizations":[{"Topic":"t","Channels":["c"],"Permissions":["subscribe"]}]}"#;
        assert!(read(go).unwrap().allow("t", "c"));
        assert!(read(&go.replace(r#""ttl":7,"TTL":null"#, r#""TTL":7"#)).unwrap().allow("t", "c"));
        let long = format!(r#"{{"ttl":1,"authorizations":[{{"topic":"{}"}}]}}"#, "a".repeat(2000));
        let many = format!(
            r#"{{"ttl":1,"authorizations":[{{"channels":[{}"a"]}}]}}"#,
            r#""a","#.repeat(1000)
        );
        let large = r#"{"ttl":1,"authorizations":[{"topic":"((a{100}){100}){100}"}]}"#;
        for (body, want) in [
            ("", "is no such JSON object"),
            ("[]", "is no such JSON object"),
            (r#"{"ttl":"1"}"#, "is no such JSON object"),
            ("{}", "invalid TTL 0 (must be >0)"),
            (r#"{"ttl":-1}"#, "invalid TTL -1"),
            (
                r#"{"ttl":1,"authorizations":[{"permissions":["publish","all"]}]}"#,
                "unknown permission all",
            ),
            (r#"{"ttl":1,"authorizations":[{"topic":"("}]}"#, "unable to compile topic \"(\""),
            (
                r#"{"ttl":1,"authorizations":[{"channels":["a","["]}]}"#,
                "unable to compile channel \"[\"",
            ),
            (&long, "it is over 1024 bytes"),
            (&many, "over 1000 expressions"),
            (large, "exceeds size limit"),
        ] {
            let error = read(body).unwrap_err();
            assert!(error.contains(want) && !error.contains('\n'), "{error}");
        }
    }
}
