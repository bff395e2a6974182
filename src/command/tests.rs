//! What may be typed, and that the texts of options tell the truth.

use std::collections::{BTreeMap, BTreeSet};

use argh::Optionality;

use super::*;
use crate::command::options::kind::ValueKind;
use crate::command::options::table::{DefaultValue, SECTIONS};

mod config;
mod pages;

/// Without variables, whatever the tests are started with.
fn parse_line(line: &str) -> Result<Invocation, EarlyExit> {
    parse_words(&line.split_whitespace().collect::<Vec<_>>(), &[])
}

fn parse_words(words: &[&str], variables: &[(&str, &str)]) -> Result<Invocation, EarlyExit> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    parse_with(&words, &variables.collect())
}

/// A command as it was parsed: all its values.
#[track_caller]
fn parsed(line: &str) -> String {
    match parse_line(line) {
        Ok(Invocation { command, common, .. }) => format!("{command:?} {common:?}"),
        Err(exit) => panic!("{line}: {exit:?}"),
    }
}

/// What must be given to a command, with some value that is taken.
fn required(command: &CommandSpec) -> String {
    let options = command.options.iter();
    let required = options.filter(|option| option.row.default == DefaultValue::Required);
    let value = |option: &OptionSpec| if option.row.kind.is_number() { "1" } else { "x" };
    let options = required.map(|option| format!(" --{} {}", option.name, value(option)));
    let positionals = command.positionals.iter().filter(|positional| positional.is_required);
    options.chain(positionals.map(|_| " x".to_owned())).collect()
}

/// One line that says `want`, and nothing else.
#[track_caller]
fn refuses(line: &str, want: &str) {
    match parse_line(line) {
        Err(EarlyExit::Usage(text)) => {
            assert!(text.contains(want), "{text}\ndoes not say {want:?}");
            assert_eq!(text.lines().count(), 1, "{text}");
        }
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn every_form_of_a_flag_works() {
    for line in [
        "run --num-messages 7 --exit",
        "run --num-messages=7 --exit=true",
        "run -num-messages=7 -exit",
    ] {
        let run = parsed(line);
        for want in [" num_messages: Count(7),", " exit: true,", " json: false }"] {
            assert!(run.contains(want), "{line}: {run}\ndoes not have {want:?}");
        }
    }
    assert!(parsed("run --exit=false").contains(" exit: false,"));
    // As Go's flags take them.
    assert!(
        parsed("run -exit=F").contains(" exit: false,")
            && parsed("run -exit=1").contains(" exit: true,")
    );
    refuses("run --exit=yes", "--exit takes no value but true or false, and got \"yes\"");
    // One that is on by default, as nsqd's tools have it, too.
    for line in ["broker --snappy", "broker -snappy=true", "broker --snappy true --deflate"] {
        assert!(parsed(line).contains(" snappy: Some(OnOff(true)),"), "{line}");
    }
    assert!(parsed("broker --snappy=false").contains(" snappy: Some(OnOff(false)),"));
    let run = parsed("run --nsqd-tcp-address a:1 --nsqd-tcp-address=b:2");
    assert!(run.contains(r#" nsqd_tcp_address: ["a:1", "b:2"],"#), "{run}");
}

#[test]
fn switches_are_known_of_all_commands() {
    let catalogue = catalogue();
    let options = catalogue.commands.iter().flat_map(|command| &command.options);
    let known: BTreeSet<_> =
        options.filter(|option| option.is_switch()).map(|option| option.flag()).collect();
    let want = [
        "--real-life",
        "--start-nsq",
        "--queue-on-disk",
        "--reset",
        "--exit",
        "--json",
        "--yes",
        "--standby",
        "--adopt-ledger",
        "--beside-others",
        "--accept-loss",
        "--undo",
        "--list",
        "--dry-run",
        "--verbose",
        "--worker-id",
        "--statsd-exclude-ephemeral",
    ];
    assert_eq!(known, want.map(str::to_owned).into());
}

#[test]
fn wrong_usage_is_answered_with_one_line() {
    refuses("run --nonsense", "run has no option --nonsense; see playcounts run --help");
    refuses(
        "run --num-vidoes 5",
        "run has no option --num-vidoes; did you mean --num-videos? See playcounts run --help",
    );
    refuses("run --num_videos=5", "did you mean --num-videos?");
    refuses(
        "run --num-messages x",
        "--num-messages x: must be a whole number from 1 to 1000000000000",
    );
    refuses("run --num-messages -5", "--num-messages -5: must be");
    refuses("run --num-threads 0", "--num-threads 0: must be a whole number from 1 to 256");
    refuses("run --num-threads 257", "from 1 to 256");
    refuses(
        "process --video-field event/video",
        "--video-field event/video: a JSON Pointer begins with / at its character 1, as in /event/video",
    );
    refuses("process --id-field /a~b", "--id-field /a~b: a ~ in a JSON Pointer is written ~0");
    refuses("run --update-interval 3x", "--update-interval 3x: must be a duration");
    refuses("run --popularity zipf:-1", "--popularity zipf:-1: must be uniform, or zipf:S");
    refuses("run --popularity unifrom", "did you mean uniform?");
    refuses("run --durability proces", "must be process, power or none; did you mean process?");
    refuses("run --exit=maybe", "--exit takes no value");
    refuses("run --topic", "--topic needs a value; see playcounts run --help");
    refuses("run --topic --channel x", "--topic needs a value");
    refuses("run --topic a --topic b", "--topic is given twice");
    refuses("run extra", "\"extra\"");
    refuses("process --log-level loud", "--log-level loud: must be one of off, fatal, error");
    refuses("process --log-format jsn", "must be text, json or journal; did you mean json?");
    refuses("process --consumer-opt colour,red", "no consumer option \"colour\"; there are ");
    refuses("run --producer-opt=snappy,maybe", "option snappy is \"maybe\"");
    refuses("bench --rounds 0", "--rounds");
    refuses("bench --num-messages many", "--num-messages");
    refuses("backup", "backup needs --output; see playcounts backup --help");
    refuses("titles import", "titles import needs FILE; see playcounts titles import --help");
    refuses("titles import a b", "nothing is known to do with \"b\"");
    refuses("video hide --reason x", "video hide needs ID...; see playcounts video hide --help");
    refuses("video hide -abc --reason x", "no option --abc (what is none stands behind --)");
    refuses("video hide a", "video hide needs --reason");
    refuses(
        "video correct a --plays 1.5 --reason x",
        "must be a whole number from -9007199254740991",
    );
    for address in [
        "https://a.example/v/",
        "https://{id}.example/",
        "javascript:{id}",
        "https://{id}",
        "ftp://a/{id}",
    ] {
        refuses(&format!("dashboard --video-url {address}"), "--video-url");
    }
    refuses(
        "run --video-url https://a/v",
        "must be an address with {id} in place of the video's id",
    );
    assert!(
        parsed("run --video-url https://a/?v={id}").contains("VideoUrl(\"https://a/?v={id}\")")
    );
    refuses("nonsense", "there is no command \"nonsense\"; see playcounts --help");
    refuses("porcess", "did you mean process? See playcounts --help");
    refuses("--topic x run", "put it behind");
    refuses("help nonsense", "there is no command \"nonsense\"");
    refuses("completions powershell", "bash, zsh, fish");
    if cfg!(feature = "postgres") {
        refuses(
            "ledger",
            "ledger needs a command: init, status, import; see playcounts ledger --help",
        );
        refuses("ledger stauts", "did you mean ledger status?");
    }
    match parse_line("") {
        Err(EarlyExit::Usage(text)) => {
            assert!(text.contains("Usage: playcounts COMMAND"), "{text}")
        }
        other => panic!("{other:?}"),
    }
}

/// Files, `-` for what is piped in, and ids that look like options.
#[test]
fn arguments_stand_between_options_or_behind_two_dashes() {
    for line in ["import a.csv --undo", "import --undo a.csv", "import --undo -- a.csv"] {
        let import = parsed(line);
        assert!(
            import.contains("file: Some(\"a.csv\")") && import.contains(" undo: true"),
            "{import}"
        );
    }
    assert!(parsed("titles import -").contains("file: \"-\""));
    assert!(parsed("import --list").contains("file: None"));
    let hide = parsed("video hide dQw4w9WgXcQ 17 --reason bots -- -abc --help help");
    assert!(hide.contains(r#"id: ["dQw4w9WgXcQ", "17", "-abc", "--help", "help"]"#), "{hide}");
    assert!(parsed("video correct a --plays -500 --reason x").contains("Signed(-500)"));
    assert!(
        matches!(parse_line("titles import --help"), Err(EarlyExit::Asked(help)) if help.contains("\nArguments:\n  FILE "))
    );
}

/// What aborted, or became another number without a word.
#[test]
fn numbers_have_ranges_that_hold() {
    refuses(
        "run --num-videos 99999999999",
        "--num-videos 99999999999: must be a whole number from 1 to 10000000",
    );
    refuses("produce --num-videos 10000001", "from 1 to 10000000");
    refuses("run --pc-ratio 1000000", "--pc-ratio 1000000: must be a number from 0.001 to 256");
    refuses("run --rate 0", "must be a number from 0.001 to 1000000000");
    refuses("run --rate 1e-300", "must be a number from 0.001");
    refuses("run --rate NaN", "must be a number from 0.001");
    refuses("run --max-in-flight 1000001", "from 1 to 1000000");
    refuses("process --max-msg-size 16777216", "from 1 to 16777186");
    refuses("process --message-window-mb 2049", "from 1 to 2048");
    refuses("broker --max-connections 1000000000000", "from 1 to 100000");
    refuses("broker --max-rdy-count 4294967296", "from 1 to 4294967295");
    refuses("broker --max-msg-size 2147483648", "from 1 to 2147483647");
    refuses("broker --max-deflate-level 10", "from 1 to 9");
    refuses("broker --tls-min-version tls1.0", "must be tls1.2 or tls1.3: older ones are broken");
    refuses("broker --tls-client-auth-policy verify", "must be require or require-verify");
    refuses("broker --tls-required=yes", "must be true, false or tcp-https");
    refuses("bench --rounds 10001", "from 1 to 10000");
}

/// The table knows each option of each command, and nothing else; its defaults, its ranges and its words are the real ones.
#[test]
fn the_table_of_options_tells_the_truth() {
    let info = Cli::get_args_info();
    let own = info.commands.iter().flat_map(|command| match command.command.commands.as_slice() {
        [] => vec![(command.name.to_owned(), command.command.flags)],
        own => {
            let itself = (command.name.to_owned(), command.command.flags);
            let of = |own: &argh::SubCommandInfo| {
                (format!("{} {}", command.name, own.name), own.command.flags)
            };
            let itself = catalogue().command(command.name).map(|_| itself);
            itself.into_iter().chain(own.iter().map(of)).collect::<Vec<_>>()
        }
    });
    let common = CommonArgs::get_args_info().flags;
    let catalogue = catalogue();
    let mut used = BTreeSet::new();
    for (name, flags) in own {
        let command = catalogue.command(&name).unwrap();
        for flag in flags.iter().chain(common).filter(|flag| flag.long != "--help") {
            let what = format!("{name} {}", flag.long);
            let option = command.option(flag.long.trim_start_matches('-')).unwrap();
            assert_eq!(option.row.name, option.name, "{what} has no row in the table");
            used.insert(format!("{:?}", option.row));
            let default = flag
                .description
                .split_once("[default: ")
                .map(|(_, text)| text.strip_suffix(']').unwrap());
            assert_eq!(default, option.default_text(), "{what}");
            let is_switch = matches!(flag.kind, argh::FlagInfoKind::Switch);
            assert_eq!(option.is_switch(), is_switch, "{what}");
            assert_eq!(option.row.default == DefaultValue::Off, is_switch, "{what}");
            let is_required = matches!(flag.optionality, Optionality::Required);
            assert_eq!(option.row.default == DefaultValue::Required, is_required, "{what}");
            check_values(command, option);
        }
    }
    let rows = SECTIONS.iter().flat_map(|section| section.rows);
    let is_of_this_build = |row: &&super::options::table::OptionRow| {
        cfg!(feature = "postgres") || !row.commands.iter().any(|name| name.starts_with("ledger "))
    };
    for row in rows.filter(is_of_this_build) {
        assert!(used.contains(&format!("{row:?}")), "no command has {row:?}");
    }
}

/// What the kind of an option says of its values.
#[track_caller]
fn check_values(command: &CommandSpec, option: &OptionSpec) {
    let takes = |value: &str| probe(command, option, value).is_ok();
    let what = format!("{} --{}", command.name, option.name);
    match option.row.kind {
        ValueKind::Whole(max) => {
            assert!(takes("1") && takes(&max.to_string()), "{what}");
            assert!(!takes("0") && !takes(&(max + 1).to_string()) && !takes("1.5"), "{what}");
        }
        ValueKind::Limit(max) => {
            assert!(takes("0") && takes(&max.to_string()), "{what}");
            assert!(!takes("-1") && !takes(&(max + 1).to_string()) && !takes("1.5"), "{what}");
        }
        ValueKind::Signed(max) => {
            assert!(takes("0") && takes(&max.to_string()) && takes(&format!("-{max}")), "{what}");
            assert!(!takes(&format!("-{}", max + 1)) && !takes("1.5"), "{what}");
        }
        ValueKind::Number(max) => {
            assert!(takes("0.001") && takes(&max.to_string()), "{what}");
            assert!(!takes("0.0009") && !takes(&(max + 1).to_string()) && !takes("x"), "{what}");
        }
        ValueKind::Duration => {
            assert!(takes("1ms") && takes("3650d") && takes("30"), "{what}");
            assert!(!takes("0") && !takes("3651d") && !takes("x"), "{what}");
        }
        ValueKind::Shares => {
            assert!(takes("0.5") && takes("1.0,0.99") && takes("1"), "{what}");
            assert!(!takes("0") && !takes("1.1") && !takes("0.5,x") && !takes("NaN"), "{what}");
        }
        ValueKind::OneOf(words) => {
            assert!(words.iter().all(|word| takes(word)) && !takes("x"), "{what}");
        }
        ValueKind::Like(words) => assert!(words.iter().all(|word| takes(word)), "{what}"),
        ValueKind::Pair => {
            assert!(takes("snappy,true") && takes("snappy") && !takes("colour,red"), "{what}");
        }
        ValueKind::Text
        | ValueKind::Address
        | ValueKind::Url
        | ValueKind::File
        | ValueKind::Directory => assert!(takes("x"), "{what}"),
        ValueKind::Switch => {}
    }
}

#[test]
fn help_and_version_go_to_stdout() {
    for line in [
        "--help",
        "-h",
        "help",
        "run --help",
        "run -h",
        "run help",
        "help run",
        "broker -h",
        "verify help",
        "run --num-videos 5 -h",
        "run --num-vidoes 5 --help",
        "config --help",
        "help config",
        "help completions",
    ] {
        match parse_line(line) {
            Err(EarlyExit::Asked(text)) => {
                assert!(text.contains("Usage: playcounts"), "{text}")
            }
            other => panic!("{line}: {other:?}"),
        }
    }
    let version = EarlyExit::Asked("playcounts 0.1.0\n".into());
    for line in ["--version", "-V", "version", "run --version", "run -V", "run --num-videos 5 -V"] {
        assert_eq!(parse_line(line).unwrap_err(), version, "{line}");
    }
    // Who starts nsqd reads what it is.
    let nsqd = EarlyExit::Asked("nsqd v1.3.0 (built w/playcounts-0.1.0)\n".into());
    for line in ["broker --version", "broker -version", "broker --verbose -V"] {
        assert_eq!(parse_line(line).unwrap_err(), nsqd, "{line}");
    }
    // What is a value is no question.
    assert!(parsed("run --topic help").contains("topic: \"help\""));
    assert!(parsed("run --topic=-h").contains("topic: \"-h\""));
    if cfg!(feature = "postgres") {
        for line in
            ["ledger --help", "ledger help", "help ledger", "ledger init -h", "help ledger init"]
        {
            assert!(matches!(parse_line(line), Err(EarlyExit::Asked(_))), "{line}");
        }
        assert_eq!(parse_line("ledger --version").unwrap_err(), version);
    }
}

/// Every documented default is the real one: giving it changes nothing.
#[test]
fn help_tells_the_defaults() {
    // What these mean is made of them later, and tested there.
    let later = [
        ("produce", "--nsqd-tcp-address"),
        ("process", "--nsqd-tcp-address"),
        ("process", "--dashboard-url"),
    ];
    for spec in &catalogue().commands {
        let (command, required) = (&*spec.name, required(spec));
        let plain = parsed(&format!("{command}{required}"));
        for option in &spec.options {
            let what = format!("{command} {}", option.flag());
            let Some(default) = option.default_text() else {
                let is_required = option.row.default == DefaultValue::Required;
                assert!(option.is_switch() || is_required, "{what}: no default");
                continue;
            };
            let field = option.key();
            let has = |value: &str| plain.contains(&format!(" {field}: {value}"));
            let not_given = has("None") || has("[]");
            let is_word = default.contains(' ') || ["none", "never"].contains(&default);
            if is_word
                || command == "broker" && not_given
                || later.contains(&(command, &*option.flag()))
            {
                assert!(not_given, "{what}: {default}, but {plain}");
            } else {
                let given = parsed(&format!("{command}{required} {} {default}", option.flag()));
                assert_eq!(given, plain, "{what}: {default}");
            }
        }
    }
}

/// An option that means the same in several commands reads the same in each.
#[test]
fn an_option_has_one_text_for_each_of_its_meanings() {
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let catalogue = catalogue();
    for option in catalogue.commands.iter().flat_map(|command| &command.options) {
        texts.entry(option.flag()).or_default().insert(help::about_with_default(option));
    }
    let several = texts.into_iter().map(|(option, texts)| (option, texts.len()));
    let several: Vec<_> = several.filter(|(_, texts)| *texts > 1).collect();
    // Without PostgreSQL there is no command `ledger`.
    let ledger = usize::from(cfg!(feature = "postgres"));
    let want = [
        ("--accept-loss", 2),
        ("--allowed-host", 2),
        ("--channel", 3),
        ("--dashboard-url", 5),
        ("--data-dir", 12 + ledger),
        ("--dry-run", 2),
        ("--durability", 4),
        ("--http-address", 2),
        ("--json", 7 + ledger),
        ("--ledger", 1 + ledger),
        ("--lookupd-http-address", 5),
        ("--max-in-flight", 2),
        ("--max-msg-size", 2),
        ("--nsqd-http-address", 4),
        ("--nsqd-tcp-address", 3),
        ("--num-messages", 3),
        ("--num-threads", 2),
        ("--rate", 2),
        ("--read-token", 2),
        ("--reason", 2),
        ("--tls-cert", 2),
        ("--tls-key", 2),
        ("--topic", 4),
        ("--write-token", 4),
    ];
    let want: Vec<_> = want.into_iter().filter(|(_, texts)| *texts > 1).collect();
    let want: Vec<_> = want.into_iter().map(|(option, texts)| (option.to_owned(), texts)).collect();
    assert_eq!(several, want);
}
