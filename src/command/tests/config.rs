//! Where the values of options come from: flag, environment, file; and what is said of those that are wrong.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use proptest::prelude::*;

use super::*;

/// A file with that text, for its owner alone.
fn file(dir: &Path, text: &str) -> String {
    let path = dir.join("a.toml").to_str().unwrap().to_owned();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

/// What is said of that file by `playcounts COMMAND --config FILE`, its path left out; empty: it is taken.
fn said_of(text: impl AsRef<[u8]>, command: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "");
    fs::write(&path, text).unwrap();
    let words: Vec<&str> = command.split(' ').chain(["--config", &path]).collect();
    match parse_words(&words, &[]) {
        Ok(_) => String::new(),
        Err(EarlyExit::Usage(text)) => text.replace(&path, "FILE"),
        Err(exit) => panic!("{exit:?}"),
    }
}

/// What `playcounts config ARGS` prints.
#[track_caller]
fn shown(words: &[&str], variables: &[(&str, &str)]) -> String {
    match parse_words(&[&["config"], words].concat(), variables) {
        Err(EarlyExit::Asked(text)) => text,
        other => panic!("{words:?}: {other:?}"),
    }
}

/// What it prints of a key, blanks made one.
#[track_caller]
fn line(text: &str, key: &str) -> String {
    let start = format!("{key} =");
    let found = text.lines().find(|line| line.trim_start_matches("# ").starts_with(&start));
    let found = found.unwrap_or_else(|| panic!("no {key} in {text}"));
    found.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_flag_goes_before_the_environment_and_that_before_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(
        dir.path(),
        "topic = \"top\"\nchannel = \"top\"\nmax_in_flight = 7\n\n[process]\nchannel = \"own\"\n\
         nsqd_tcp_address = [\"a:1\", \"b:2\"]\nupdate_interval = 0.5\njson = true\n[run]\ntopic = \"other\"\n",
    );
    let variables = [("PLAYCOUNTS_CONFIG", &*path), ("PLAYCOUNTS_CHANNEL", "variable")];
    let of_file = shown(&["process", "--config", &path], &[]);
    assert_eq!(line(&of_file, "topic"), format!("topic = \"top\" # {path}:1"));
    assert_eq!(line(&of_file, "channel"), format!("channel = \"own\" # {path}:6"));
    assert_eq!(line(&of_file, "max_in_flight"), format!("max_in_flight = 7 # {path}:3"));
    assert_eq!(
        line(&of_file, "nsqd_tcp_address"),
        format!("nsqd_tcp_address = [\"a:1\", \"b:2\"] # {path}:7")
    );
    assert_eq!(line(&of_file, "update_interval"), format!("update_interval = \"0.5\" # {path}:8"));
    assert_eq!(line(&of_file, "json"), format!("json = true # {path}:9"));
    assert_eq!(line(&of_file, "durability"), "durability = \"process\" # default");
    assert_eq!(line(&of_file, "connect_timeout"), "# connect_timeout = # default: never");
    let of_variables = shown(&["process"], &variables);
    assert_eq!(line(&of_variables, "channel"), "channel = \"variable\" # PLAYCOUNTS_CHANNEL");
    assert_eq!(line(&of_variables, "topic"), format!("topic = \"top\" # {path}:1"));
    let words = ["process", "--channel=flag", "--json=false", "--nsqd-tcp-address", "c:3"];
    let typed = shown(&words, &variables);
    assert_eq!(line(&typed, "channel"), "channel = \"flag\" # flag");
    assert_eq!(line(&typed, "json"), "json = false # flag");
    assert_eq!(line(&typed, "nsqd_tcp_address"), "nsqd_tcp_address = [\"c:3\"] # flag");
    // And it is what the command gets.
    let got = parse_words(&words, &variables).unwrap();
    let got = format!("{:?}", got.command);
    for want in ["channel: \"flag\"", "topic: \"top\"", "json: false", "[\"c:3\"]", "500ms"] {
        assert!(got.contains(want), "{got} has no {want}");
    }
}

#[test]
fn a_list_in_the_environment_is_separated_by_blanks() {
    let variables = [("PLAYCOUNTS_NSQD_TCP_ADDRESS", " a:1  b:2\n"), ("PLAYCOUNTS_EXIT", "true")];
    let run = parse_words(&["run"], &variables).unwrap();
    let run = format!("{:?}", run.command);
    assert!(run.contains("[\"a:1\", \"b:2\"]") && run.contains("exit: true"), "{run}");
    let typed = parse_words(&["run", "--exit=false"], &variables).unwrap();
    assert!(format!("{:?}", typed.command).contains("exit: false"));
}

#[test]
fn what_is_wrong_says_where_it_stands() {
    let wrong = |variables: &[(&str, &str)]| match parse_words(&["process"], variables) {
        Err(EarlyExit::Usage(text)) => text,
        other => panic!("{variables:?}: {other:?}"),
    };
    assert_eq!(
        wrong(&[("PLAYCOUNTS_UPDATE_INTERVAL", "fast")]),
        "PLAYCOUNTS_UPDATE_INTERVAL=fast: must be a duration from 1ms to 3650d, such as 30, 30s, 500ms, 0.5, 1m30s or 2d"
    );
    assert_eq!(wrong(&[("PLAYCOUNTS_JSON", "yes")]), "PLAYCOUNTS_JSON=yes: must be true or false");
    for (text, want) in [
        (
            "\n\nupdate_interval = \"fast\"",
            "FILE:3: update_interval = \"fast\": must be a duration",
        ),
        (
            "num_threads = 257",
            "FILE:1: num_threads = \"257\": must be a whole number from 1 to 256",
        ),
        ("durability = \"pwer\"", "did you mean power?"),
        ("topik = 'x'", "FILE:1: no command has an option topik; did you mean topic?"),
        ("http-address = 'x'", "did you mean http_address?"),
        ("zzzzzz = 1", "FILE:1: no command has an option zzzzzz"),
        (
            "[process]\nhttp_address = 'a:1'",
            "FILE:2: process has no option http_address: it is one of ",
        ),
        ("[process]\ntopik = 'x'", "FILE:2: process has no option topik; did you mean topic?"),
        ("[proces]\n", "FILE:1: there is no command for [proces]; did you mean [process]?"),
        ("[[process]]\n", "FILE:1: "),
        ("process = 1", "FILE:1: no command has an option process; did you mean [process]?"),
        ("config = 'b.toml'", "FILE:1: a file cannot name another one"),
        ("topic = 5", "FILE:1: topic must be text in quotes"),
        ("json = 'true'", "FILE:1: json must be true or false, without quotes"),
        ("json = 1", "FILE:1: json must be true or false"),
        ("topic = ['a', 'b']", "FILE:1: topic must be one value, and this is a list of 2"),
        ("topic = []", "FILE:1: topic must be one value"),
        ("num_threads = true", "FILE:1: num_threads must be text in quotes"),
        ("update_interval = 1979-05-27", "FILE:1: update_interval must be a value"),
        ("update_interval = inf", "must be a duration"),
        ("num_messages = 99999999999999999999", "must be a whole number"),
        ("nsqd_tcp_address = [['a']]", "FILE:1: nsqd_tcp_address must be a value"),
        ("topic = 'a'\ntopic = 'b'", "FILE:2: "),
        ("topic = \n", "FILE:1: "),
        ("write_token = '(hidden)'", "FILE:1: write_token is (hidden) here"),
        // The first of several.
        ("# x\na = 1\nb = 2\n[c]\n", "FILE:2: "),
    ] {
        let said = said_of(text, "process");
        assert!(said.contains(want), "{text:?}: {said:?}\ndoes not say {want:?}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    assert_eq!(
        said_of(
            "dashboard_url = 'http://a'\nnsqd_tcp_address = 'a:1'\nnum_threads = 0x10",
            "process"
        ),
        ""
    );
    // A list of one is one.
    assert_eq!(said_of("dashboard_url = ['http://a']", "produce"), "");
    // Without PostgreSQL's client there is no such command.
    let want = if cfg!(feature = "postgres") {
        ""
    } else {
        "FILE:3: there is no command for [ledger_init]"
    };
    assert_eq!(
        said_of("[dead_letters]\njson = true\n[ledger_init]\nlog_level = 'info'", "dead-letters"),
        want
    );
}

#[test]
fn a_file_that_cannot_be_read_is_told_so() {
    let no_text = said_of(b"topic = 'a'\nchannel = '\xff'", "process");
    assert_eq!(no_text, "FILE:2: this is not UTF-8, which TOML is written in");
    let large = said_of("#".repeat((1 << 20) + 1), "process");
    assert!(large.contains("FILE is over 1048576 bytes"), "{large}");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let directory = parse_words(&["run", "--config", path], &[]).unwrap_err();
    let EarlyExit::Usage(text) = directory else { panic!("{directory:?}") };
    assert!(text.contains("is a directory"), "{text}");
    let missing = parse_words(&["run"], &[("PLAYCOUNTS_CONFIG", "/no/such")]).unwrap_err();
    assert_eq!(
        missing,
        EarlyExit::Usage(
            "cannot read PLAYCOUNTS_CONFIG=/no/such: No such file or directory (os error 2)".into()
        )
    );
}

#[test]
fn a_secret_is_for_nobody_else_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let said = |text: &str, mode| {
        let path = file(dir.path(), text);
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        match parse_words(&["config", "process", "--config", &path], &[]) {
            Err(EarlyExit::Usage(text) | EarlyExit::Asked(text)) => {
                assert!(!text.contains("s3cret"), "{text}");
                text
            }
            other => panic!("{other:?}"),
        }
    };
    for secret in [
        "write_token = 's3cret'",
        "[dashboard]\nwrite_token = 's3cret'",
        "ledger = 'postgres://me:s3cret@host/plays'",
        "consumer_opt = ['snappy,true', 'auth_secret,s3cret']",
    ] {
        for mode in [0o604, 0o644, 0o606, 0o666] {
            assert!(said(secret, mode).contains("is a secret: chmod 640"), "{secret} {mode:o}");
        }
        for mode in [0o600, 0o640, 0o400] {
            assert!(said(secret, mode).contains("# What holds"), "{secret} {mode:o}");
        }
    }
    assert!(
        said("topic = 's'\nledger = 'postgres://me@host/plays'", 0o644).contains("# What holds")
    );
    let hidden = said("write_token = 's3cret'", 0o600);
    assert!(line(&hidden, "write_token").starts_with("write_token = \"(hidden)\" # "), "{hidden}");
    // Nor in an error.
    for (variable, value) in [
        ("PLAYCOUNTS_CONSUMER_OPT", "auth_secret=s3cret"),
        ("PLAYCOUNTS_PRODUCER_OPT", "auth_secret_,s3cret"),
    ] {
        let command = if variable.contains("CONSUMER") { "process" } else { "produce" };
        let exit = parse_words(&[command], &[(variable, value)]).unwrap_err();
        assert!(!format!("{exit:?}").contains("s3cret"), "{exit:?}");
    }
}

#[test]
fn of_two_that_exclude_each_other_the_nearer_holds() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "write_token = 'file'\nlookupd_http_address = ['l:1']\n");
    let variables = [("PLAYCOUNTS_CONFIG", &*path)];
    let words = ["process", "--write-token-file=f", "--nsqd-tcp-address=a:1"];
    let text = shown(&words, &variables);
    assert_eq!(line(&text, "write_token"), "# write_token = # not needed here");
    assert_eq!(line(&text, "lookupd_http_address"), "# lookupd_http_address = # not needed here");
    let got = format!("{:?}", parse_words(&words, &variables).unwrap().command);
    assert!(got.contains("write_token: None") && got.contains("lookupd_http_address: []"), "{got}");
    // In one place both are given, and the command says what is wrong with that.
    let both = parse_words(&["process", "--write-token=a", "--write-token-file=f"], &[]).unwrap();
    assert!(format!("{:?}", both.command).contains("write_token: Some(\"a\")"));
}

#[test]
fn variables_of_no_option_are_passed_over_and_named() {
    let variables = [
        ("PLAYCOUNTS_PORT", "tcp://10.0.0.1:80"),
        ("PLAYCOUNTS_HTTP_ADRESS", "x"),
        ("PLAYCOUNTS_TOPIC", "t"),
    ];
    assert!(parse_words(&["process"], &variables).is_ok());
    for text in [shown(&["process"], &variables), shown(&[], &variables)] {
        assert!(
            text.contains("# PLAYCOUNTS_PORT is passed over: no option has that name\n"),
            "{text}"
        );
        assert!(text.contains("did you mean PLAYCOUNTS_HTTP_ADDRESS?"), "{text}");
        assert!(!text.contains("PLAYCOUNTS_TOPIC is passed over"), "{text}");
    }
}

/// What a command says at its end names the place where the value stands, too.
#[test]
fn later_errors_name_the_place_instead_of_a_flag_that_nobody_typed() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "topic = 'a b'\nwrite_token = 'x'\n");
    let given =
        parse_words(&["process", "--config", &path], &[("PLAYCOUNTS_CHANNEL", "c")]).unwrap();
    let named = given.sources.named_in(
        "--topic: no name; --topics and --write-token-file stay, --write-token, --channel; --json",
    );
    assert_eq!(
        named,
        format!(
            "topic ({path}:1): no name; --topics and --write-token-file stay, write_token ({path}:2), PLAYCOUNTS_CHANNEL; --json"
        )
    );
    assert_eq!(Sources::default().named_in("no -- flag --"), "no -- flag --");
}

/// What is printed can be used as a file and says the same.
#[track_caller]
fn check_round_trip(words: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let printed = shown(words, &[]);
    let path = file(dir.path(), &printed);
    let direct = parse_words(words, &[]);
    let by_file = parse_words(&[words[0], "--config", &path], &[]);
    let values = |got: Result<Invocation, EarlyExit>| format!("{:?}", got.unwrap().command);
    // What is looked up where nothing is given is the same as what is said to be looked up.
    let same = |text: String| {
        text.replace("nsqd_tcp_address: [\"127.0.0.1:4150\"]", "nsqd_tcp_address: []")
            .replace("dashboard_url: [\"http://127.0.0.1:8000\"]", "dashboard_url: []")
    };
    assert_eq!(same(values(by_file)), same(values(direct)), "{printed}");
}

#[test]
fn what_config_prints_can_be_used_as_a_file() {
    check_round_trip(&["run"]);
    check_round_trip(&["process"]);
    check_round_trip(&["produce"]);
    check_round_trip(&["dashboard"]);
    check_round_trip(&["bench", "--num-messages=1_000", "--json"]);
    check_round_trip(&["reset", "--topic", "a\"b\\c", "--yes"]);
    check_round_trip(&["process", "--consumer-opt=snappy,true", "--consumer-opt=rdy,fixed"]);
    check_round_trip(&[
        "process",
        "--lookupd-http-address=a:1",
        "--log-level=info,playcounts=debug",
    ]);
    // All commands at once, each in its table.
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), &shown(&[], &[]));
    assert!(parse_words(&["run", "--config", &path], &[]).is_ok());
}

proptest! {
    /// Any text is taken or refused.
    #[test]
    fn any_text_is_taken_or_refused(text in "\\PC{0,200}") {
        let _ = check_config_text(&text);
    }

    /// Text that is nearly a configuration, too.
    #[test]
    fn what_is_nearly_a_file_is_taken_or_refused(
        lines in prop::collection::vec(
            "(\\[{0,2}(process|run|ledger_init|x)\\]{0,2}|(topic|num_threads|json|nsqd_tcp_address|write_token|\"\")( = )?(\"[a-z:0-9\\\\]{0,5}\"?|-?[0-9_.ex]{0,25}|true|\\[[\"a,1 ]{0,9}\\]|\\{[a=1 ]{0,5}\\}))",
            0..8,
        )
    ) {
        let text = lines.join("\n");
        if let Err(error) = check_config_text(&text) {
            prop_assert!(error.starts_with("FILE:") && !error.contains('\n'), "{error}");
        }
    }

    /// A value comes back from what is printed as it was.
    #[test]
    fn any_value_comes_back(value in "[^\\x00\\s-][^\\x00]{0,20}") {
        let printed = shown(&["process", &format!("--topic={value}")], &[]);
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), &printed);
        let got = parse_words(&["process", "--config", &path], &[]).unwrap();
        let want = format!("topic: {value:?}");
        let got = format!("{:?}", got.command);
        prop_assert!(got.contains(&want), "{got} has no {want}");
    }
}

/// What is said of a file by `playcounts broker`, and what it makes of one key; the file is one of nsqd.
#[test]
fn a_file_of_nsqd_is_taken_and_what_it_would_mean_otherwise_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let text = "log_level = \"info\"\nid = 5\ntcp_address = \"0.0.0.0:4150\"\nhttp_address = \"0.0.0.0:4151\"\n\
                broadcast_address = \"\"\nnsqlookupd_tcp_addresses = [\n  \"a:4160\",\n  \"b:4160\"\n]\n\
                http_client_connect_timeout = \"2s\"\nmem_queue_size = 10000\nmsg_timeout = \"60s\"\n\
                max_msg_size = 1024768\nstatsd_address = \"\"\nstatsd_prefix = \"nsq.%s\"\nstatsd_mem_stats = false\n\
                e2e_processing_latency_percentiles = [\n  1.0,\n  0.99,\n  0.95\n]\n\
                e2e_processing_latency_window_time = \"10m\"\n";
    let path = file(dir.path(), text);
    let broker = shown(&["broker", "--config", &path], &[]);
    let place = |line: usize| format!("# {path}:{line}");
    assert_eq!(
        line(&broker, "lookupd_tcp_address"),
        format!("lookupd_tcp_address = [\"a:4160\", \"b:4160\"] {}", place(6))
    );
    assert_eq!(line(&broker, "node_id"), format!("node_id = 5 {}", place(2)));
    assert!(line(&broker, "statsd_mem_stats").ends_with(&place(16)), "{broker}");
    // What is empty is as if it were not there.
    for key in ["broadcast_address", "statsd_address"] {
        assert!(line(&broker, key).contains("default:"), "{}", line(&broker, key));
    }
    let percentiles = line(&broker, "e2e_processing_latency_percentile");
    assert!(percentiles.contains("[\"1.0\", \"0.99\", \"0.95\"]"), "{percentiles}");
    // The same in the command's own table.
    assert_eq!(
        said_of("[broker]\nnsqlookupd_tcp_addresses = [\"a:4160\"]\nid = 5\n", "broker"),
        ""
    );
    for (text, want) in [
        (
            "msg_timeout = 60000\n",
            "FILE:1: msg_timeout = 60000 has no unit: nsqd takes that for milliseconds, a command line for seconds; write \"60000ms\" or \"60000s\"",
        ),
        ("[broker]\nmsg_timeout = \"60000\"\n", "FILE:2: msg_timeout = 60000 has no unit"),
        (
            "lookupd_tcp_address = \"a:1\"\nnsqlookupd_tcp_addresses = [\"b:1\"]\n",
            "FILE:2: lookupd_tcp_address is given in line 1 already",
        ),
        ("statsd_exclude_ephemeral = \"\"\n", "must be true or false"),
        ("e2e_processing_latency_percentiles = [1.5]\n", "must be a number above 0 and up to 1"),
        ("nonsense = 1\n", "no command has an option nonsense"),
    ] {
        let said = said_of(text, "broker");
        assert!(said.contains(want), "{text}: {said}");
    }
    // What is typed is seconds, and is printed as a file must have it.
    let typed = shown(&["broker", "-msg-timeout=30"], &[("PLAYCOUNTS_MAX_MSG_TIMEOUT", "0.5")]);
    assert_eq!(line(&typed, "msg_timeout"), "msg_timeout = \"30s\" # flag");
    assert!(line(&typed, "max_msg_timeout").starts_with("max_msg_timeout = \"0.5s\""), "{typed}");
    assert_eq!(said_of(&typed, "broker"), "");
    // Other commands have their own meaning of a bare number.
    assert_eq!(said_of("update_interval = 30\n", "process"), "");
}

#[test]
fn an_empty_flag_of_nsqd_is_none_and_an_empty_address_is_no_http() {
    let words = ["broker", "-statsd-address=", "-lookupd-tcp-address=", "-broadcast-address", ""];
    let broker = format!("{:?}", parse_words(&words, &[]).unwrap());
    for want in ["statsd_address: None", "lookupd_tcp_address: []", "broadcast_address: None"] {
        assert!(broker.contains(want), "{want} in {broker}");
    }
    let without = format!("{:?}", parse_words(&["broker", "--http-address="], &[]).unwrap());
    assert!(without.contains("http_address: \"\""), "{without}");
    // What is a number or on or off is never empty.
    for wrong in ["-max-msg-size=", "-statsd-mem-stats=", "-verbose=", "-msg-timeout="] {
        assert!(parse_words(&["broker", wrong], &[]).is_err(), "{wrong}");
    }
}

/// A list as one text, and what is on or off in quotes.
#[test]
fn texts_of_a_file_of_nsqd_are_taken_as_nsqd_takes_them() {
    let dir = tempfile::tempdir().unwrap();
    let text = "nsqlookupd_tcp_addresses = \"a:4160,b:4160\"\nauth_http_addresses = [\"a:1\", \"http://b/?c,d\"]\n\
                verbose = \"true\"\nworker_id = \"F\"\nsnappy = \"0\"\ntls_required = \"tcp-https\"\nstatsd_mem_stats = \"T\"\n";
    let path = file(dir.path(), text);
    let broker = parse_words(&["broker", "--config", &path], &[]).unwrap();
    let broker = format!("{:?}", broker.command);
    for want in [
        "lookupd_tcp_address: [\"a:4160\", \"b:4160\"]",
        "auth_http_address: [\"a:1\", \"http://b/?c,d\"]",
        "verbose: true",
        "worker_id: false",
        "snappy: Some(OnOff(false))",
        "statsd_mem_stats: Some(OnOff(true))",
        "ExceptHttp",
    ] {
        assert!(broker.contains(want), "{want} in {broker}");
    }
    for (text, command, want) in [
        ("verbose = \"yes\"\n", "broker", "verbose must be true or false"),
        ("snappy = \"yes\"\n", "broker", "must be true or false"),
        // As before where nsqd has no part in it.
        ("nsqd_tcp_address = \"a:1,b:1\"\njson = \"true\"\n", "process", "json must be true"),
    ] {
        let said = said_of(text, command);
        assert!(said.contains(want), "{text}: {said}");
    }
    let pair = file(dir.path(), "consumer_opt = \"snappy,true\"\n");
    let pair = parse_words(&["process", "--config", &pair], &[]).unwrap();
    assert!(!format!("{:?}", pair.command).contains("\"snappy\", \"true\""), "{pair:?}");
}

/// Taken for nothing it would let everybody in, and outrank the servers that a file names.
#[test]
fn an_empty_authorization_server_is_passed_on_to_be_refused() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let name = "PLAYCOUNTS_AUTH_HTTP_ADDRESS";
    for blank in ["", " ", "\t \n", "\u{a0}"] {
        let path = file(dir.path(), "auth_http_address = 'a:1'\n");
        let flag = format!("--auth-http-address={blank}");
        let text = format!("auth_http_addresses = {blank:?}\n").replace("{a0}", "00a0");
        let of_file = file(other.path(), &text);
        for (words, variables) in [
            (vec!["broker", &*flag, "--config", &*path], vec![]),
            (vec!["broker", "--config", &*path], vec![(name, blank)]),
            (vec!["broker", "--config", &*of_file], vec![]),
        ] {
            let broker = format!("{:?}", parse_words(&words, &variables).unwrap().command);
            let want = format!("auth_http_address: [{blank:?}]");
            assert!(broker.contains(&want), "{words:?} {variables:?}: {broker}");
        }
    }
    let some = parse_words(&["broker"], &[(name, " a:1  b:2 ")]).unwrap();
    assert!(format!("{some:?}").contains("auth_http_address: [\"a:1\", \"b:2\"]"), "{some:?}");
}
